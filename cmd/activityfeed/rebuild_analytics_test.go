package main

import (
	"strings"
	"testing"

	"activityfeed/analytics"
	"activityfeed/internal/testenv"
)

// Rows are removed by hand under a server that runs; the log brings them back.
func TestRebuildAnalytics(t *testing.T) {
	testenv.Redis(t)
	testenv.ClickHouse(t) // needs the engine, and says so
	srv := serve(t, func(cfg *serveCmd) {
		cfg.Roles = []string{roleAPI, roleFeed, roleAnalytics}
	})
	if out, err := srv.tool("load", "--graph", generatedGraph(t, 40), "--posts", "100", "--deletes", "0.1"); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Fatalf("audit of a whole server: %v\n%s", err, out)
	}
	writer, err := clickhouseFlags{}.writer(srv.endpoints(), srv.dir, analytics.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := analytics.Connect(writer)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(sql string) {
		t.Helper()
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("ALTER TABLE activityfeed.events DELETE WHERE event_id % 3 = 0 SETTINGS mutations_sync = 2")
	if out, err := srv.tool("audit"); err == nil {
		t.Fatalf("audit finds nothing where rows are lost:\n%s", out)
	}
	out, err := srv.tool("rebuild", "--analytics")
	if err != nil || !strings.Contains(out, "events") || !strings.Contains(out, "deliveries") {
		t.Fatalf("rebuild --analytics: %v\n%s", err, out)
	}
	t.Log(out)
	if out, err := srv.tool("audit"); err != nil {
		t.Errorf("audit after the rebuild: %v\n%s", err, out)
	}

	// A row that the log does not know.
	exec("INSERT INTO activityfeed.events (event_id, event_type, event_time) VALUES (7, 'PhotoPosted', '2026-01-02 03:04:05')")
	if out, err := srv.tool("rebuild", "--analytics"); err == nil || !strings.Contains(err.Error(), "1 of events, accepted from 2026-01-02 03:04:05") {
		t.Errorf("rebuild of a row that the log has not = %v, want a refusal that counts it\n%s", err, out)
	}
	if out, err := srv.tool("rebuild", "--analytics", "--not-in-log", "drop"); err != nil || !strings.Contains(out, "1, dropped") {
		t.Errorf("rebuild that drops it: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Errorf("audit at the end: %v\n%s", err, out)
	}
}
