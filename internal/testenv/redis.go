package testenv

import (
	"os/exec"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/embedded"
)

// OnEveryRedis runs a test against the in-memory stand-in, a real Redis, and the
// Redis Cluster of the process, which refuses commands across hash slots. The
// package needs TestMain, see [Main].
func OnEveryRedis(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Helper()
	for name, open := range map[string]func(t testing.TB) redis.UniversalClient{
		"miniredis": func(t testing.TB) redis.UniversalClient { return RedisClient(t, MiniRedis(t).Addr()) },
		"redis":     func(t testing.TB) redis.UniversalClient { return RedisClient(t, Redis(t)) },
		"cluster":   func(t testing.TB) redis.UniversalClient { return SharedRedisCluster(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// RedisTimeout is how long a test waits for an answer of Redis that it has no doubt of:
// a shared machine may stand still for longer than the 3 s of the product.
const RedisTimeout = 10 * time.Second

// RedisClient returns a client of the Redis at an address, closed at the test's end.
func RedisClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, ReadTimeout: RedisTimeout})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

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
