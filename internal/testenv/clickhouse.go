package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"activityfeed/internal/embedded"
)

// shared holds the engine of this test process. It is a package variable because
// TestMain ends what any test started.
var shared struct {
	main bool // TestMain called Main

	start sync.Once
	dir   string
	ch    *embedded.ClickHouse
	err   error
}

// Main runs the tests of a package that uses [ClickHouse] or [SharedRedisCluster]
// and ends the shared engines after them. It is all that TestMain does:
// os.Exit(testenv.Main(m)).
func Main(m *testing.M) int {
	embedded.RunChild() // in a child this never returns
	shared.main = true
	code := m.Run()
	closeSharedCluster()
	if shared.ch != nil {
		_ = shared.ch.Close()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	return code
}

// ClickHouse returns the native address of a real ClickHouse, shared by the tests
// of this process, and the name of a database of the test's own, dropped at its
// end. The user is "default" without a password. The first call takes about 1 s.
func ClickHouse(t testing.TB) (addr, database string) {
	t.Helper()
	mustMain(t)
	shared.start.Do(func() { shared.ch, shared.err = startShared() })
	if errors.Is(shared.err, embedded.ErrEngineMissing) {
		need(t, "the ClickHouse engine", shared.err.Error())
	}
	if shared.err != nil {
		t.Fatalf("start clickhouse: %v", shared.err)
	}
	addr, database = shared.ch.Addr(), "test_"+strings.ToLower(rand.Text())
	execSQL(t, addr, "CREATE DATABASE "+database)
	t.Cleanup(func() { execSQL(t, addr, "DROP DATABASE "+database+" SYNC") })
	return addr, database
}

// ClickHouseServer starts an engine of the test's own, for tests that stop, kill
// or restart it or look at its users. An empty Dir means a directory of the test's.
func ClickHouseServer(t testing.TB, cfg embedded.ClickHouseConfig) *embedded.ClickHouse {
	t.Helper()
	mustMain(t)
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	ch, err := embedded.StartClickHouse(t.Context(), cfg, Logger(t))
	if errors.Is(err, embedded.ErrEngineMissing) {
		need(t, "the ClickHouse engine", err.Error())
	}
	if err != nil {
		t.Fatalf("start clickhouse: %v", err)
	}
	t.Cleanup(func() { _ = ch.Close() }) // a test may have killed it
	return ch
}

// mustMain fails a test whose binary, started again as the engine, would run the
// tests instead.
func mustMain(t testing.TB) {
	t.Helper()
	if !shared.main {
		t.Fatal("this package needs: func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }")
	}
}

func startShared() (*embedded.ClickHouse, error) {
	dir, err := os.MkdirTemp("", "activityfeed-clickhouse-")
	if err != nil {
		return nil, err
	}
	shared.dir = dir
	// It outlives the test that starts it, so it cannot log to that test.
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return embedded.StartClickHouse(context.Background(), embedded.ClickHouseConfig{Dir: dir, Open: true}, log)
}

func execSQL(t testing.TB, addr, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}})
	if err == nil {
		defer func() { _ = conn.Close() }()
		err = conn.Exec(ctx, query)
	}
	if err != nil {
		t.Error(fmt.Errorf("%s: %w", query, err))
	}
}
