package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"activityfeed/internal/fault"
)

// childEnv holds a childSpec for this test binary, started again as the process
// that gets killed.
const childEnv = "ANALYTICS_TEST_CHILD"

type childSpec struct {
	Config  Config
	Brokers []string
	// Insert is the number of the insert at which the process dies.
	Insert int32
	// During kills while the insert is on its way; else after its success, before
	// the acknowledgement, so that the log knows nothing of it.
	During bool
	// Before kills before the insert is sent.
	Before bool
}

// runChild consumes until it kills itself.
func runChild() int {
	var spec childSpec
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	a, err := newAnalyticsIn(Service, spec.Config, spec.Brokers, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	a.sink.store = &deadly{inserter: a.sink.store, spec: spec}
	// The parent's patience ends before this.
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	fmt.Fprintln(os.Stderr, "ended by itself:", a.Run(ctx))
	return 1
}

// deadly kills the process at an insert.
type deadly struct {
	inserter

	spec    childSpec
	inserts atomic.Int32
}

func (d *deadly) insert(ctx context.Context, token string, r block, from, to int) error {
	mine := d.inserts.Add(1) == d.spec.Insert
	if mine && d.spec.Before {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if mine && d.spec.During {
		go func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }()
	}
	err := d.inserter.insert(ctx, token, r, from, to)
	if mine && err == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return err
}

// specText is a spec as the child reads it.
func specText(t *testing.T, spec childSpec) string {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// die runs a child to its death.
func die(t *testing.T, spec childSpec) {
	t.Helper()
	text := specText(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+text)
	out, err := child.CombinedOutput()
	status, _ := child.ProcessState.Sys().(syscall.WaitStatus)
	if ctx.Err() != nil || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v, want its own kill -9:\n%s", err, out)
	}
}

func TestKilledBetweenInsertAndCommit(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events") // no merge shall hide a repeat
	brokers := newLog(t)
	published := 0
	more := func(n int) {
		publish(t, brokers, manyPhotos(published, published+n-1)...)
		published += n
	}
	more(2000)
	for _, spec := range []childSpec{
		{Insert: 1},
		{Insert: 1, During: true},
		{Insert: 4},
		{Insert: 6, During: true},
	} {
		spec.Config, spec.Brokers = table.cfg, brokers
		die(t, spec)
		evict(t, brokers)
		more(300) // and the next batches are cut otherwise
	}
	r := run(t, table.cfg, brokers)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var events uint64
		err := table.conn.QueryRow(t.Context(), "SELECT uniqExact(event_id) FROM "+table.cfg.Database+".events").Scan(&events)
		if err == nil && int(events) == published {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events after %v (%v)", events, published, patience, err)
		}
	}
	r.close()
	table.wantPosts(published)
	// Not only the views: each batch that was in, but not acknowledged, was formed
	// again as it was, and dropped for its token.
	if got := table.count("SELECT count() FROM {db}.events"); got != published {
		t.Errorf("the table holds %d rows for %d events", got, published)
	}
	if got := poisoned(t, brokers); got != 0 {
		t.Errorf("%d letters, want none", got)
	}
}

// A connection that breaks after the insert went out leaves us without the
// answer; the repeat must not count.
func TestALostAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	proxy := newMuteProxy(t, table.cfg.Addr)
	cfg := table.cfg
	cfg.Addr = proxy.addr
	through := connect(t, cfg)
	s, _ := newSink(t, &store{conn: through.conn, table: cfg.Database + ".events", timeout: patience})
	batch := batchOf(t, 1, recordsOf(t, 0, photos(0, 99)...)...)

	proxy.mute.Store(true)
	answered := make(chan error, 1)
	go func() { answered <- s.handleBatch(batch) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for table.count("SELECT count() FROM {db}.events") != 100 {
		select {
		case <-tick.C:
		case err := <-answered:
			t.Fatalf("the insert has an answer (%v), and is not in", err)
		}
	}
	// It is in, and nobody told us.
	proxy.cut()
	if err := <-answered; fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("handleBatch without an answer = %v, want an outage", err)
	}
	proxy.mute.Store(false)
	if err := s.handleBatch(batch); err != nil {
		t.Fatal(err)
	}
	if got := table.count("SELECT count() FROM {db}.events"); got != 100 {
		t.Errorf("after the repeat the table holds %d rows, want 100", got)
	}
}

// muteProxy passes bytes on. While mute it keeps the answer to an insert.
type muteProxy struct {
	addr string
	mute atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func newMuteProxy(t *testing.T, server string) *muteProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &muteProxy{addr: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, upstream)
			p.mu.Unlock()
			all.Go(func() { p.pass(client, upstream) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		all.Wait()
	})
	return p
}

// cut ends all connections.
func (p *muteProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *muteProxy) pass(client, upstream net.Conn) {
	// More than hello and the text of an insert, less than the block of 100 rows:
	// what the server says after that is its answer.
	const beforeBlock = 2048
	var sent counter
	var up sync.WaitGroup
	up.Go(func() { _, _ = io.Copy(io.MultiWriter(upstream, &sent), client) })
	defer up.Wait()
	buffer := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buffer)
		if err != nil {
			return
		}
		if p.mute.Load() && sent.n.Load() > beforeBlock {
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }
