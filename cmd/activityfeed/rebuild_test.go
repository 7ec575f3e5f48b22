package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"activityfeed/internal/testenv"
)

// Redis loses everything under a server that runs; the log brings it back.
func TestRebuild(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	dir := t.TempDir()
	cfg, err := defaultServeConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Roles = []string{roleAPI, roleFeed}
	srv, err := newServer(t.Context(), cfg, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx) }()

	tool := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(ctx, append(args, "--data-dir", dir), &out, &out)
		return out.String(), err
	}
	if out, err := tool("load", "--graph", generatedGraph(t, 60), "--posts", "150", "--warm", "0.7", "--deletes", "0.1", "--unfollows", "0.1", "--blocks", "0.02", "--mutes", "0.02"); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	if out, err := tool("audit"); err != nil {
		t.Fatalf("audit of a whole server: %v\n%s", err, out)
	}
	if err := srv.engines.redis.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := tool("audit"); err == nil {
		t.Fatalf("audit finds nothing where everything is lost:\n%s", out)
	}
	out, err := tool("rebuild")
	if err != nil || !strings.Contains(out, "feeds built again") {
		t.Fatalf("rebuild: %v\n%s", err, out)
	}
	if out, err := tool("audit"); err != nil {
		t.Errorf("audit after the rebuild: %v\n%s", err, out)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
}
