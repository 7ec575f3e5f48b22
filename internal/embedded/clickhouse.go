package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	// ClickHouseUser owns everything in the embedded ClickHouse.
	ClickHouseUser = "activityfeed"
	// ClickHouseAnalyst may only read, within the limits of [Limits].
	ClickHouseAnalyst = "analyst"
	// ClickHouseStartTimeout is how long [StartClickHouse] waits for the first
	// answer; about 1 s is usual, loading thousands of parts takes longer.
	ClickHouseStartTimeout = 2 * time.Minute
	// clickHouseStopGrace is how long the engine may take to end by itself. What
	// it has acknowledged is on disk, so a kill after that loses nothing.
	clickHouseStopGrace = 10 * time.Second
)

// ClickHouseConfig says where and how the embedded ClickHouse runs.
type ClickHouseConfig struct {
	// Dir holds tables, configuration and passwords; it is made when absent.
	// Required.
	Dir string
	// TCPPort is the port of the native protocol on 127.0.0.1. 0 means a free one.
	TCPPort int
	// HTTPPort is the port of the HTTP interface, with the /play page, on
	// 127.0.0.1. 0 means a free one.
	HTTPPort int
	// Library is the path of libchdb.so. Empty means the one in the cache
	// ([ClickHouseLibrary]) when it is there.
	Library string
	// Binary is a clickhouse binary, 26.6 or newer: a path, or a name to look up
	// on PATH. Empty means "clickhouse". It is used when there is no library.
	Binary string
	// Password is that of ClickHouseUser. Empty means a random one, made once
	// and kept in Dir.
	Password string
	// AnalystPassword is that of ClickHouseAnalyst. Empty as for Password.
	AnalystPassword string
	// Open lets the user "default" in without a password and with all rights:
	// for tests. Without it "default" may do nothing.
	Open bool
	// MaxMemory is the memory in bytes that the whole engine may use. 0 means
	// half of the machine's.
	MaxMemory int64
	// Analyst bounds one query of ClickHouseAnalyst. Zero fields mean the
	// defaults that Limits names.
	Analyst Limits
	// Shards makes this engine one of a cluster: all of them, this one too. For tests
	// of what runs on a real cluster elsewhere; there is no Keeper, so nothing is
	// replicated.
	Shards []ClickHouseShard
}

// ClickHouseCluster is the name of the cluster of ClickHouseConfig.Shards.
const ClickHouseCluster = "shards"

// ClickHouseShard is where one engine of a cluster listens.
type ClickHouseShard struct {
	Host string
	Port int
	// Password is that of ClickHouseUser there.
	Password string
}

// Limits bounds one query.
type Limits struct {
	// Memory is in bytes. 0 means 1 GiB.
	Memory int64
	// Rows is how many rows a result may have. 0 means 100,000.
	Rows int64
	// ReadRows is how many rows a query may read. 0 means 1,000,000,000.
	ReadRows int64
	// Time is how long a query may run; whole seconds. 0 means 30 s.
	Time time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Memory:   cmp.Or(l.Memory, 1<<30),
		Rows:     cmp.Or(l.Rows, 100_000),
		ReadRows: cmp.Or(l.ReadRows, 1_000_000_000),
		Time:     cmp.Or(l.Time, 30*time.Second),
	}
}

// Validate names every fault of the configuration.
func (c ClickHouseConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no Dir"))
	}
	for name, port := range map[string]int{"TCPPort": c.TCPPort, "HTTPPort": c.HTTPPort} {
		if port < 0 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s %d is not 0 to 65535", name, port))
		}
	}
	if c.TCPPort != 0 && c.TCPPort == c.HTTPPort {
		errs = append(errs, errors.New("TCPPort and HTTPPort are the same"))
	}
	if c.MaxMemory < 0 || c.Analyst.Memory < 0 || c.Analyst.Rows < 0 || c.Analyst.ReadRows < 0 || c.Analyst.Time < 0 {
		errs = append(errs, errors.New("a limit is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded clickhouse: %w", err)
	}
	return nil
}

// ClickHouse is a running embedded ClickHouse.
type ClickHouse struct {
	tcp, http string
	password  string
	analyst   string
	child     *child
	tty       *os.File
	lock      *flock.Flock
	closeOnce sync.Once
}

// StartClickHouse starts the engine as a child and returns when it answers
// queries. The error is ErrEngineMissing when neither library nor binary is here.
//
// With the library, the child is this very program: its main must call
// [RunChild] before anything else.
func StartClickHouse(ctx context.Context, cfg ClickHouseConfig, log *slog.Logger) (*ClickHouse, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log = log.With("engine", "clickhouse")
	launch, err := findClickHouse(ctx, cfg)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	h := &ClickHouse{lock: lock}
	if err := h.start(ctx, launch, dir, cfg, log); err != nil {
		_ = lock.Unlock()
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	log.Info("clickhouse is up", "addr", h.tcp, "http", h.http, "dir", dir, "engine_from", launch.from, "pid", h.child.pid())
	return h, nil
}

// start runs the engine, on other ports when a free one that we found was taken
// before the engine had it.
func (h *ClickHouse) start(ctx context.Context, launch launcher, dir string, cfg ClickHouseConfig, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, ClickHouseStartTimeout)
	defer cancel()
	var err error
	if h.password, err = keepPassword(dir, ClickHouseUser, cfg.Password); err != nil {
		return err
	}
	if h.analyst, err = keepPassword(dir, ClickHouseAnalyst, cfg.AnalystPassword); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := h.startOnce(ctx, launch, dir, cfg, log)
		if !lostPort(err, cfg.TCPPort, cfg.HTTPPort) || try == 3 || ctx.Err() != nil {
			return err
		}
		log.Warn("clickhouse did not start, trying other ports", "attempt", try, "err", err)
	}
}

func (h *ClickHouse) startOnce(ctx context.Context, launch launcher, dir string, cfg ClickHouseConfig, log *slog.Logger) error {
	held, err := lockForChild(dir)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }() // the child has its own copy
	// Only now is the engine of an earlier run gone that may have had the ports.
	tcp, err := portOr(cfg.TCPPort, false)
	if err != nil {
		return err
	}
	web, err := portOr(cfg.HTTPPort, false)
	if err != nil {
		return err
	}
	if err := errors.Join(CheckPort(tcp), CheckPort(web)); err != nil {
		return err
	}
	s := settings{
		Dir: dir, TCPPort: tcp, HTTPPort: web, Password: h.password, AnalystPassword: h.analyst,
		Open: cfg.Open, MaxMemory: cfg.MaxMemory, Analyst: cfg.Analyst.withDefaults(),
		Cluster: ClickHouseCluster, Shards: cfg.Shards,
	}
	args, err := s.write()
	if err != nil {
		return err
	}
	cmd := launch.command(args)
	cmd.Dir = dir // a config.xml in our own working directory must not be picked up
	cmd.ExtraFiles = []*os.File{held}
	cmd.Stdout = io.Discard // the prompt
	ours, theirs, err := openPTY()
	if err != nil {
		return err
	}
	cmd.Stdin = theirs
	c, err := startChild("clickhouse", cmd, clickHouseLine, log) // it outlives this call
	_ = theirs.Close()                                           // the child has its own copy
	if err != nil {
		_ = ours.Close()
		return err
	}
	_ = held.Truncate(0)
	_, _ = held.WriteAt(fmt.Appendf(nil, "%d (clickhouse)\n", c.pid()), 0)

	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(web))
	if err := waitReady(ctx, c, func(ctx context.Context) error { return askClickHouse(ctx, addr, h.password) }); err != nil {
		c.stop(time.Second)
		_ = ours.Close()
		return withTaken(err, tcp, web)
	}
	h.child, h.tty, h.http, h.tcp = c, ours, addr, net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp))
	return nil
}

// Addr is host:port of the native protocol.
func (h *ClickHouse) Addr() string { return h.tcp }

// HTTPAddr is host:port of the HTTP interface.
func (h *ClickHouse) HTTPAddr() string { return h.http }

// Password is that of [ClickHouseUser]. A secret: not for logs.
func (h *ClickHouse) Password() string { return h.password }

// AnalystPassword is that of [ClickHouseAnalyst].
func (h *ClickHouse) AnalystPassword() string { return h.analyst }

// PID is the process id of the engine.
func (h *ClickHouse) PID() int { return h.child.pid() }

// Done is closed when the engine is gone, by Close or by itself.
func (h *ClickHouse) Done() <-chan struct{} { return h.child.done }

// Err says how the engine ended by itself; nil while it runs and after Close.
func (h *ClickHouse) Err() error { return h.child.failure() }

// Close ends the engine and returns when it is gone. The error is that of Err:
// the engine had ended by itself before. It may be called more than once.
func (h *ClickHouse) Close() error {
	h.closeOnce.Do(func() {
		h.child.stop(clickHouseStopGrace)
		_ = h.tty.Close()
		_ = h.lock.Unlock()
	})
	return h.Err()
}

// ClickHousePassword reads the password of a user of the engine in dir, for a
// second process of the same owner, such as a command line.
func ClickHousePassword(dir, user string) (string, error) {
	b, err := os.ReadFile(passwordFile(dir, user))
	if err != nil {
		return "", fmt.Errorf("password of clickhouse user %s: %w", user, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// keepPassword stores the given password, or returns the stored one, or makes one.
func keepPassword(dir, user, given string) (string, error) {
	path := passwordFile(dir, user)
	if given == "" {
		stored, err := ClickHousePassword(dir, user)
		if err == nil && stored != "" {
			return stored, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		given = rand.Text()
	}
	if err := os.WriteFile(path, []byte(given+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("store password of clickhouse user %s: %w", user, err)
	}
	return given, nil
}

func passwordFile(dir, user string) string { return filepath.Join(dir, user+".password") }
