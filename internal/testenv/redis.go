package testenv

import (
	"os/exec"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"activityfeed/internal/embedded"
)

// MiniRedis starts an in-memory Redis in this process: quick, with a clock that
// the test moves, and without persistence or memory limits.
func MiniRedis(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatalf("start the in-memory redis: %v", err)
	}
	t.Cleanup(m.Close)
	return m
}

// Redis starts a real redis-server of the test's own and returns its address. It
// takes some 20 ms and keeps nothing on disk.
func Redis(t testing.TB) string {
	t.Helper()
	return RedisServer(t, embedded.RedisConfig{NoPersist: true}).Addr()
}

// RedisServer is Redis with the server in hand, for tests that stop, kill or
// restart it or set its directives. An empty Dir means a directory of the test's.
func RedisServer(t testing.TB, cfg embedded.RedisConfig) *embedded.Redis {
	t.Helper()
	if cfg.Binary == "" {
		cfg.Binary = "redis-server"
	}
	if _, err := exec.LookPath(cfg.Binary); err != nil {
		need(t, cfg.Binary, "run `make redis`, or install it")
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	r, err := embedded.StartRedis(t.Context(), cfg, Logger(t))
	if err != nil {
		t.Fatalf("start redis: %v", err)
	}
	t.Cleanup(func() { _ = r.Close() }) // a test may have killed it
	return r
}
