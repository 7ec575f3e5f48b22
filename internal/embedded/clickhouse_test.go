package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
)

func login(t *testing.T, addr, user, password string) clickhouse.Conn {
	t.Helper()
	c, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}, Auth: clickhouse.Auth{Username: user, Password: password}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func owner(t *testing.T, ch *embedded.ClickHouse) clickhouse.Conn {
	t.Helper()
	return login(t, ch.Addr(), embedded.ClickHouseUser, ch.Password())
}

func run(t *testing.T, c clickhouse.Conn, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if err := c.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func count(t *testing.T, c clickhouse.Conn, from string) uint64 {
	t.Helper()
	var n uint64
	if err := c.QueryRow(t.Context(), "SELECT count() FROM "+from).Scan(&n); err != nil {
		t.Fatalf("count %s: %v", from, err)
	}
	return n
}

// clickHouseVictim says where its engine is.
func clickHouseVictim(dir string) error {
	ch, err := embedded.StartClickHouse(context.Background(), embedded.ClickHouseConfig{Dir: dir}, quiet())
	if err != nil {
		return err
	}
	fmt.Println("server", ch.Addr())
	<-ch.Done()
	return ch.Err()
}

func TestClickHouseDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	testenv.ClickHouse(t) // skips where there is none
	v := startVictim(t, "clickhouse", t.TempDir())
	conn, err := net.Dial("tcp", v.next(t, "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	v.kill(t)
	waitGone(t, conn)
}

func TestClickHouseKeepsRowsWhenKilled(t *testing.T) {
	t.Parallel()
	cfg := embedded.ClickHouseConfig{Dir: t.TempDir()}
	ch := testenv.ClickHouseServer(t, cfg)
	c := owner(t, ch)
	// A client's mistake is no reason of the death that follows.
	if err := login(t, ch.Addr(), embedded.ClickHouseUser, "guess").Ping(t.Context()); err == nil {
		t.Error("a wrong password lets in")
	}
	run(t, c, "CREATE TABLE t (k UInt64, v String) ENGINE = ReplacingMergeTree ORDER BY k")
	for range 20 {
		run(t, c, "INSERT INTO t SELECT number, toString(number) FROM numbers(1000)")
	}
	if err := syscall.Kill(ch.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-ch.Done()
	if want := "clickhouse ended: by signal 9 (killed)"; ch.Err() == nil || ch.Err().Error() != want {
		t.Errorf("Err = %v, want %s", ch.Err(), want)
	}
	if err := ch.Close(); err == nil {
		t.Error("Close says nothing of it")
	}

	again := testenv.ClickHouseServer(t, cfg)
	if again.Password() != ch.Password() || again.AnalystPassword() != ch.AnalystPassword() {
		t.Error("the passwords changed over the restart")
	}
	c = owner(t, again)
	if got := count(t, c, "t FINAL"); got != 1000 {
		t.Errorf("after the kill the table has %d rows, want 1000", got)
	}
	// Tables that were there before the start are merged as well.
	run(t, c, "OPTIMIZE TABLE t FINAL")
	if got := count(t, c, "system.parts WHERE active AND table = 't'"); got != 1 {
		t.Errorf("the table is in %d parts after OPTIMIZE, want 1", got)
	}
}

func TestClickHouseUsers(t *testing.T) {
	t.Parallel()
	ch := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{Dir: t.TempDir(), Analyst: embedded.Limits{Rows: 1000, ReadRows: 100_000, Memory: 100 << 20}})
	run(t, owner(t, ch), "CREATE TABLE t (k UInt64) ENGINE = MergeTree ORDER BY k", "INSERT INTO t SELECT number FROM numbers(10)")
	const denied, readonly, tooMany, quota, wrong = 497, 164, 396, 201, 516
	tests := map[string]struct {
		user, password string
		query          string
		code           int32 // 0: allowed
	}{
		"analyst reads":                  {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SELECT * FROM t", 0},
		"analyst looks around":           {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SHOW TABLES", 0},
		"analyst makes a table":          {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "CREATE TABLE x (k UInt64) ENGINE = Memory", denied},
		"analyst writes":                 {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "INSERT INTO t SELECT 1", denied},
		"analyst drops":                  {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "DROP TABLE t", denied},
		"analyst reads files":            {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SELECT * FROM file('/etc/passwd', LineAsString)", denied},
		"analyst closes the ports":       {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SYSTEM STOP LISTEN TCP", denied},
		"analyst lifts a limit":          {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SET max_execution_time = 0", readonly},
		"analyst asks for too many rows": {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SELECT number FROM numbers(2000)", tooMany},
		"analyst reads too many rows":    {embedded.ClickHouseAnalyst, ch.AnalystPassword(), "SELECT count() FROM numbers(200000) WHERE number % 2 = 0", 158},
		"wrong password":                 {embedded.ClickHouseUser, "guess", "SELECT 1", wrong},
		"no password":                    {embedded.ClickHouseUser, "", "SELECT 1", wrong},
		"wrong analyst password":         {embedded.ClickHouseAnalyst, ch.Password(), "SELECT 1", wrong},
		"default reads":                  {"default", "", "SELECT * FROM t", denied},
		"default closes the ports":       {"default", "", "SYSTEM STOP LISTEN TCP", quota},
		"default opens a port":           {"default", "", "SYSTEM START LISTEN HTTPS", quota},
		"default burns processor time":   {"default", "", "SELECT count() FROM numbers(10)", quota},
		"default reads files":            {"default", "", "SELECT * FROM file('/etc/passwd', LineAsString)", denied},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := login(t, ch.Addr(), tt.user, tt.password).Exec(t.Context(), tt.query)
			var code int32
			var ex *clickhouse.Exception
			if errors.As(err, &ex) {
				code = ex.Code
			} else if err != nil {
				t.Fatal(err)
			}
			if code != tt.code {
				t.Errorf("%s is answered with code %d (%v), want %d", tt.query, code, err, tt.code)
			}
		})
	}
}

// A connection that ends badly must not end the engine; see serveQuery.
func TestClickHouseOutlivesBadClients(t *testing.T) {
	t.Parallel()
	ch := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{})
	if err := login(t, ch.Addr(), embedded.ClickHouseUser, "guess").Ping(t.Context()); err == nil {
		t.Error("a wrong password lets in")
	}
	for _, addr := range []string{ch.Addr(), ch.HTTPAddr()} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("no protocol that anybody speaks"))
		_ = conn.Close()
	}
	// Hangs up while the answer is on its way.
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := owner(t, ch).Query(ctx, "SELECT number FROM system.numbers")
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatalf("no rows: %v", rows.Err())
	}
	cancel()
	_ = rows.Close()
	// Hangs up in the middle of an insert.
	c := owner(t, ch)
	run(t, c, "CREATE TABLE t (k UInt64) ENGINE = MergeTree ORDER BY k")
	batch, err := c.PrepareBatch(t.Context(), "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	if err := errors.Join(batch.Append(uint64(1)), batch.Flush()); err != nil {
		t.Fatal(err)
	}
	_ = batch.Abort()
	_ = c.Close()

	if got := count(t, owner(t, ch), "system.one"); got != 1 {
		t.Errorf("count = %d after the bad clients, want 1", got)
	}
	if err := ch.Err(); err != nil {
		t.Errorf("the engine is gone: %v", err)
	}
}

func TestClickHouseKeepsSecretsToItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ch := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{Dir: dir, Password: `a "quoted" <password>`})
	if got := count(t, owner(t, ch), "system.one"); got != 1 {
		t.Errorf("a given password lets in, and count is %d, want 1", got)
	}
	if got, err := embedded.ClickHousePassword(dir, embedded.ClickHouseAnalyst); err != nil || got != ch.AnalystPassword() {
		t.Errorf("ClickHousePassword = %q, %v, want that of the engine", got, err)
	}
	for _, name := range []string{"activityfeed.password", "analyst.password", "users.xml", "config.xml"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s may be read by others: %v", name, got)
		}
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", ch.PID()))
	if err == nil && strings.Contains(string(line), ch.Password()) {
		t.Error("the password is on the command line")
	}
}

func TestClickHouseDirectoryHasOneServer(t *testing.T) {
	t.Parallel()
	cfg := embedded.ClickHouseConfig{Dir: t.TempDir()}
	testenv.ClickHouseServer(t, cfg)
	_, err := embedded.StartClickHouse(t.Context(), cfg, testenv.Logger(t))
	if err == nil || !strings.Contains(err.Error(), "is in use by process") {
		t.Errorf("the second StartClickHouse says %v, want it to name the first", err)
	}
}

func TestClickHouseBinaryOnPath(t *testing.T) {
	t.Parallel()
	testenv.ClickHouse(t) // skips where there is none
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lib, err := embedded.ClickHouseLibrary()
	if err != nil {
		t.Fatal(err)
	}
	// The engine of the library under the name and with the command line of the
	// real binary.
	fake := func(version string) string {
		path := filepath.Join(t.TempDir(), "clickhouse")
		script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = local ] || exit 1\n[ \"$2\" = --version ] && { echo 'ClickHouse local version %s (official build).'; exit; }\nshift\nACTIVITYFEED_ENGINE_CHILD=clickhouse exec '%s' '%s' \"$@\"\n", version, self, lib)
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ch := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{Binary: fake("26.7.2.1")})
	if got := count(t, owner(t, ch), "system.one"); got != 1 {
		t.Errorf("count = %d, want 1", got)
	}
	for version, ok := range map[string]bool{"26.6.1.1": true, "26.5.9.1": false, "18.16.1": false, "27.1.1.1": true} {
		_, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseConfig{Dir: "/dev/null/x", Binary: fake(version)}, testenv.Logger(t))
		if missing := errors.Is(err, embedded.ErrEngineMissing); missing == ok {
			t.Errorf("StartClickHouse with version %s says %v", version, err)
		}
	}
}

// What keeps the engine from starting is told at once, in one line.
func TestClickHouseThatDoesNotStart(t *testing.T) {
	t.Parallel()
	testenv.ClickHouse(t) // skips where there is none
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // the subtests go on after this function
	port := taken.Addr().(*net.TCPAddr).Port
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "clickhouse")
		text = "#!/bin/sh\n[ \"$2\" = --version ] && { echo 'ClickHouse local version 26.7.2.1.'; exit; }\n" + text
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		cfg  embedded.ClickHouseConfig
		want string
	}{
		{"a taken port", embedded.ClickHouseConfig{TCPPort: port}, fmt.Sprintf("clickhouse: port %d is taken by another program", port)},
		{"a taken HTTP port", embedded.ClickHouseConfig{HTTPPort: port}, fmt.Sprintf("clickhouse: port %d is taken by another program", port)},
		{"a child that dies", embedded.ClickHouseConfig{Binary: script("echo old news >&2; echo no luck >&2; exit 3\n")}, "clickhouse: clickhouse ended: exit status 3: no luck"},
		{
			"a child that stays, and serves nothing",
			embedded.ClickHouseConfig{Binary: script("echo 'Code: 210. DB::Exception: Listen failed' >&2; exec cat\n")},
			"clickhouse: clickhouse does not serve: Code: 210. DB::Exception: Listen failed",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Dir = t.TempDir()
			_, err := embedded.StartClickHouse(within(t, 20*time.Second), tt.cfg, testenv.Logger(t))
			if err == nil || err.Error() != tt.want {
				t.Errorf("StartClickHouse says %v, want %s", err, tt.want)
			}
		})
	}
}

func TestClickHouseMissing(t *testing.T) {
	t.Setenv("ACTIVITYFEED_CACHE", t.TempDir())
	t.Setenv("PATH", "")
	_, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseConfig{Dir: t.TempDir()}, testenv.Logger(t))
	if !errors.Is(err, embedded.ErrEngineMissing) {
		t.Errorf("StartClickHouse says %v, want %v", err, embedded.ErrEngineMissing)
	}
	if err != nil && !strings.Contains(err.Error(), "make engines") && !strings.Contains(err.Error(), "on PATH") {
		t.Errorf("StartClickHouse says %v, want it to say what to do", err)
	}
}

func TestClickHouseStopsWhenAsked(t *testing.T) {
	t.Parallel()
	ch := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{})
	begin := time.Now()
	if err := ch.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(begin); took >= 10*time.Second {
		t.Errorf("Close took %v: it was killed, not asked", took)
	}
	if err := ch.Err(); err != nil {
		t.Errorf("Err = %v after Close", err)
	}
}
