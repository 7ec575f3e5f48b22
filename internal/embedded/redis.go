package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/gofrs/flock"
)

const (
	// RedisStartTimeout is how long [StartRedis] waits for the first answer. A
	// server that loads an append-only file of some GB needs its time.
	RedisStartTimeout = 2 * time.Minute
	// redisStopGrace is how long a server may take to end by itself.
	redisStopGrace = 10 * time.Second
)

// RedisConfig says where and how the embedded Redis runs.
type RedisConfig struct {
	// Dir is the directory of the append-only file; it is made when absent.
	// Required.
	Dir string
	// Port is the TCP port on 127.0.0.1. 0 means a free one.
	Port int
	// Socket is the path of a unix socket. When set there is no TCP port, and
	// Addr is this path. Empty means TCP. Linux allows 107 bytes.
	Socket string
	// Binary is the redis-server to run: a path, or a name to look up on PATH.
	// Empty means "redis-server", and the in-memory stand-in when there is none;
	// a binary that is named here must exist.
	Binary string
	// NoPersist switches the append-only file off: for tests and benchmarks.
	NoPersist bool
	// Settings are further directives of redis.conf, such as "maxmemory": "1gb".
	// Nil means none.
	Settings map[string]string
}

// Validate names every fault of the configuration.
func (c RedisConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no Dir"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not 0 to 65535", c.Port))
	}
	if c.Socket != "" && c.Port != 0 {
		errs = append(errs, errors.New("both Port and Socket"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded redis: %w", err)
	}
	return nil
}

// Redis is a running embedded Redis.
type Redis struct {
	addr    string
	child   *child // nil for the stand-in
	lock    *flock.Flock
	persist bool

	mini    *miniredis.Miniredis // nil for a real server
	stopped chan struct{}        // the stand-in's Done

	closeOnce sync.Once
}

// StartRedis starts a redis-server child and returns when it answers. With no
// redis-server on PATH, and none asked for by name, it starts an in-memory
// stand-in and logs that nothing survives a restart.
func StartRedis(ctx context.Context, cfg RedisConfig, log *slog.Logger) (*Redis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log = log.With("engine", "redis")
	binary, err := exec.LookPath(cmp.Or(cfg.Binary, "redis-server"))
	if err != nil {
		if cfg.Binary != "" {
			return nil, fmt.Errorf("redis: %w: no %s here: install redis-server (make redis), or name none to run in memory", ErrEngineMissing, cfg.Binary)
		}
		return startMiniredis(cfg, log)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r := &Redis{lock: lock, persist: !cfg.NoPersist}
	if err := r.start(ctx, binary, dir, cfg, log); err != nil {
		_ = lock.Unlock()
		return nil, fmt.Errorf("redis: %w", err)
	}
	log.Info("redis is up", "addr", r.addr, "dir", dir, "pid", r.child.pid())
	return r, nil
}

// start runs the server, on another port when the free one that we found was
// taken before the server had it.
func (r *Redis) start(ctx context.Context, binary, dir string, cfg RedisConfig, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, RedisStartTimeout)
	defer cancel()
	for try := 1; ; try++ {
		port, err := portOr(cfg.Port, cfg.Socket != "")
		if err != nil {
			return err
		}
		err = r.startOnce(ctx, binary, dir, port, cfg, log)
		if !lostPort(err, cfg.Port) || try == 3 || ctx.Err() != nil {
			return err
		}
		log.Warn("redis did not start, trying another port", "attempt", try, "err", err)
	}
}

func (r *Redis) startOnce(ctx context.Context, binary, dir string, port int, cfg RedisConfig, log *slog.Logger) error {
	held, err := lockForChild(dir)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }() // the child has its own copy
	if cfg.Socket == "" {
		// Only now is the server of an earlier run gone that may have had it.
		if err := CheckPort(port); err != nil {
			return err
		}
	}
	cmd := exec.Command(binary, redisArgs(dir, port, cfg)...)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{held}
	c, err := startChild("redis-server", cmd, redisLine, log) // it outlives this call
	if err != nil {
		return err
	}
	_ = held.Truncate(0)
	_, _ = held.WriteAt(fmt.Appendf(nil, "%d (redis-server)\n", c.pid()), 0)

	network, addr := "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if cfg.Socket != "" {
		network, addr = "unix", cfg.Socket
	}
	if err := waitRedis(ctx, c, network, addr); err != nil {
		c.stop(time.Second)
		return withTaken(err, port)
	}
	r.child, r.addr = c, addr
	return nil
}

// redisArgs is the whole configuration; no file is read.
func redisArgs(dir string, port int, cfg RedisConfig) []string {
	args := []string{
		"--dir", dir,
		"--bind", "127.0.0.1",
		"--port", strconv.Itoa(port),
		"--daemonize", "no",
		"--supervised", "no",
		"--save", "", // the append-only file alone: one truth, and no fork of a big heap on a timer
		"--appendonly", yesNo(!cfg.NoPersist),
		"--appendfsync", "everysec",
		// At full load the file grows by 10 MB a second, and each rewrite takes a core
		// for a second: with Redis's own 64 MB that was one second of seven. To read
		// this much back takes seconds.
		"--auto-aof-rewrite-min-size", "256mb",
		// Pieces of 200 entries, 2 KB of ids, instead of 8 KB: each push moves the
		// first piece in memory. Measured with full feeds: 519,000 pushes a second
		// instead of 424,000, and 10.7 bytes an entry instead of 11.3. The name is the one that
		// Redis 6 knows too.
		"--list-max-ziplist-size", "200",
	}
	if cfg.Socket != "" {
		args = append(args, "--unixsocket", cfg.Socket, "--unixsocketperm", "700")
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Settings)) {
		args = append(args, "--"+k, cfg.Settings[k])
	}
	return args
}

// Addr is what a Redis client connects to: host:port, or the path of the socket.
func (r *Redis) Addr() string { return r.addr }

// Persistent reports whether the data survives a restart. If not, projections
// must be rebuilt from the log at start.
func (r *Redis) Persistent() bool { return r.child != nil && r.persist }

// PID is the process id of the server; 0 for the in-memory stand-in.
func (r *Redis) PID() int {
	if r.child == nil {
		return 0
	}
	return r.child.pid()
}

// Done is closed when the server is gone, by Close or by itself.
func (r *Redis) Done() <-chan struct{} {
	if r.child == nil {
		return r.stopped
	}
	return r.child.done
}

// Err says how the server ended by itself; nil while it runs and after Close.
func (r *Redis) Err() error {
	if r.child == nil {
		return nil
	}
	return r.child.failure()
}

// Close ends the server and returns when it is gone; the append-only file is
// complete then. The error is that of Err: the server had ended by itself
// before. It may be called more than once.
func (r *Redis) Close() error {
	r.closeOnce.Do(func() {
		if r.child == nil {
			r.mini.Close()
			close(r.stopped)
			return
		}
		grace := redisStopGrace
		if !r.persist {
			grace = 0 // nothing to write down
		}
		r.child.stop(grace)
		_ = r.lock.Unlock()
	})
	return r.Err()
}
