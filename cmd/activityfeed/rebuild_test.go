package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/testenv"
)

// Redis loses everything under a server that runs; the log brings it back.
func TestRebuild(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	srv := serve(t, func(cfg *serveCmd) {
		cfg.Roles = []string{roleAPI, roleFeed}
	})

	if out, err := srv.tool("load", "--graph", generatedGraph(t, 60), "--posts", "150", "--warm", "0.7", "--deletes", "0.1", "--unfollows", "0.1", "--blocks", "0.02", "--mutes", "0.02"); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Fatalf("audit of a whole server: %v\n%s", err, out)
	}
	loseAllButMarkers(t, srv.engines.redis)
	if out, err := srv.tool("audit"); err == nil {
		t.Fatalf("audit finds nothing where everything is lost:\n%s", out)
	}
	killRebuild(t, srv.dir, srv.engines.redis)
	if out, err := srv.tool("audit"); err == nil {
		t.Fatalf("audit finds nothing after half a rebuild:\n%s", out)
	}
	out, err := srv.tool("rebuild")
	if err != nil || !strings.Contains(out, "feeds built again") {
		t.Fatalf("rebuild: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Errorf("audit after the rebuild: %v\n%s", err, out)
	}

	// Some keys are lost: a repair is about those whom it concerns.
	if err := srv.engines.redis.Del(t.Context(), "author:{u0}", "following:{u3}", "followers:{u0}", "feed:{u0}", "feed:{u3}", "feed:{u5}").Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := srv.tool("audit", "--repair", "--json"); err != nil || !strings.Contains(out, `"left": {`) {
		t.Errorf("repair: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Errorf("audit after the repair: %v\n%s", err, out)
	}
	if out, err := srv.tool("rebuild", "--users", "u1,nosuch"); err == nil || !strings.Contains(err.Error(), "--users: the log has nothing of nosuch") {
		t.Errorf("rebuild of a user who does not exist: %v\n%s", err, out)
	}
	testAuditor(t, srv.tool)
}

// killRebuild kills a rebuild -9 when it has begun to write, at a pace at which it
// would go on for minutes.
func killRebuild(t *testing.T, dir string, client redis.UniversalClient) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "activityfeed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	before, err := client.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, "rebuild", "--rate", "20", "--data-dir", dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for limit := time.NewTimer(time.Minute); ; {
		n, err := client.DBSize(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n > before+5 {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the rebuild ended by itself: %v\n%s", err, out.String())
		case <-limit.C:
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("the rebuild writes nothing:\n%s", out.String())
		case <-time.After(5 * time.Millisecond): // Redis has no other signal
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var killed *exec.ExitError
	if err := <-ended; !errors.As(err, &killed) || killed.Exited() {
		t.Fatalf("the rebuild ended by itself: %v\n%s", err, out.String())
	}
}

// testAuditor looks at the metrics of an auditor that stays.
func testAuditor(t *testing.T, tool func(args ...string) (string, error)) {
	t.Helper()
	addr := freeAddr(t)
	ended := make(chan error, 1)
	go func() {
		_, err := tool("audit", "--every", "10ms", "--users", "20", "--ops", addr)
		ended <- err
	}()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Errorf("auditor = %v", err)
		}
	})
	for limit := time.Now().Add(30 * time.Second); ; {
		metrics, err := readMetrics(t.Context(), addr)
		if strings.Contains(metrics, "activityfeed_audit_users 20") && strings.Contains(metrics, `activityfeed_feed_drift{kind="missing"} 0`) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("metrics of the auditor: %v\n%s", err, metrics)
		}
		time.Sleep(10 * time.Millisecond) // it has no other signal
	}
}

func readMetrics(ctx context.Context, addr string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
