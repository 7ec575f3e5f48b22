package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load"
	"activityfeed/internal/testenv"
)

var (
	graphFlag = flag.String("graph", "", "edge list for TestKilledServerLosesNothing instead of a generated one")
	postsFlag = flag.Int("posts", 600, "photos that TestKilledServerLosesNothing posts")
	seedFlag  = flag.Uint64("seed", 0, "seed of the moments at which the server is killed; 0 takes one from the clock")
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// The server is killed twice in the middle of a load, once among the follows and
// once among the posts, and started again on the same folder. The load goes on;
// at the end every feed is what the log says, and ClickHouse counts what it has.
func TestKilledServerLosesNothing(t *testing.T) {
	graph := *graphFlag
	if graph == "" {
		graph = generatedGraph(t, 300)
	}
	killAndAudit(t, graph, *postsFlag)
}

func TestKilledServerLosesNothingOnReed98(t *testing.T) {
	killAndAudit(t, testenv.SharedData(t, "socfb-Reed98.edges"), 2000)
}

func killAndAudit(t *testing.T, graph string, posts int) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("kill moments from -seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	bin := filepath.Join(t.TempDir(), "activityfeed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir, api := t.TempDir(), freeAddr(t)
	srv := startProcess(t, bin, dir, api)

	follows := countEdges(t, graph)
	loaded := make(chan error, 1)
	var loadLog bytes.Buffer
	go func() {
		loaded <- run(t.Context(), []string{"load", "--graph", graph, "--data-dir", dir, "--posts", strconv.Itoa(posts), "--warm", "0.5", "--deletes", "0.05"}, &loadLog, &loadLog)
	}()
	// Not at its very end, so that there is a load to go on with.
	for _, moment := range []int{rng.IntN(follows), follows + rng.IntN(posts*9/10)} {
		srv.waitForRecords(t, moment, loaded, &loadLog)
		t.Logf("kill -9 after %d of about %d records", moment, follows+posts)
		srv.kill(t)
		srv = startProcess(t, bin, dir, api)
	}
	if err := <-loaded; err != nil {
		t.Fatalf("load: %v\n%s", err, loadLog.String())
	}
	var report bytes.Buffer
	if err := run(t.Context(), []string{"audit", "--data-dir", dir}, &report, &report); err != nil {
		t.Fatalf("audit after two kills: %v\n%s\n%s", err, report.String(), srv.log.String())
	}
	t.Logf("%s\n%s", loadLog.String(), report.String())
	srv.stop(t)
}

// process is the server as a process of its own, which a test may kill.
type process struct {
	cmd *exec.Cmd
	dir string
	log *bytes.Buffer
}

func startProcess(t *testing.T, bin, dir, api string, more ...string) *process {
	t.Helper()
	p := &process{dir: dir, log: new(bytes.Buffer)}
	p.cmd = exec.Command(bin, append([]string{"serve", "--data-dir", dir, "--api-addr", api, "--ops", "127.0.0.1:0"}, more...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(api, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return p
		}
		if ctx.Err() != nil {
			t.Fatalf("server does not come up: %v\n%s", err, p.log.String())
		}
	}
}

// kill is kill -9: the process has no chance to finish anything.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// stop asks the process to stop, and expects it to do so without a complaint.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("server stopped with %v\n%s", err, p.log.String())
	}
}

// waitForRecords returns when the log has n records, or the load has ended well: it may
// have ended between two looks at the log.
func (p *process) waitForRecords(t *testing.T, n int, loaded chan error, loadLog fmt.Stringer) {
	t.Helper()
	e, err := target{DataDir: p.dir}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := kafka.NewAdmin(e.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for {
		ends, err := admin.EndOffsets(t.Context(), event.Topic)
		if err != nil {
			t.Fatal(err)
		}
		var total int64
		for _, end := range ends {
			total += end
		}
		if total >= int64(n) {
			return
		}
		select {
		case err := <-loaded:
			if err != nil {
				t.Fatalf("the load ended at %d records, before the kill at %d: %v\n%s", total, n, err, loadLog)
			}
			loaded <- nil
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t)))
}

// generatedGraph writes a power-law graph: who is followed is drawn by rank.
func generatedGraph(t *testing.T, users int) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 0))
	popular := rand.NewZipf(rng, 1.2, 4, uint64(users-1))
	var text strings.Builder
	for follower := range users {
		for range 12 {
			fmt.Fprintf(&text, "u%d\tu%d\n", follower, popular.Uint64())
		}
	}
	path := filepath.Join(t.TempDir(), "graph.txt")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func countEdges(t *testing.T, path string) int {
	t.Helper()
	g, err := load.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(g.Follows)
}
