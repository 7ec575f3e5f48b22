package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/analytics"
	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
)

// The log has forgotten nearly everything, and Redis has lost everything: ClickHouse
// and what is left of the log bring the feeds back. Of the end of the log ClickHouse
// has nothing, so that each of the two is needed.
func TestRebuildFromClickHouse(t *testing.T) {
	testenv.Redis(t)
	testenv.ClickHouse(t) // needs the engine, and says so
	srv := serve(t, func(cfg *serveCmd) {
		cfg.Roles = []string{roleAPI, roleFeed, roleAnalytics}
		cfg.Engines.Kafka = testenv.Kafka(t) // the embedded one lets nobody cut it
	})
	if out, err := srv.tool("load", "--graph", generatedGraph(t, 60), "--posts", "300", "--warm", "0.7", "--deletes", "0.1", "--unfollows", "0.1", "--blocks", "0.02", "--mutes", "0.02"); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	if out, err := srv.tool("audit", "--from", "clickhouse"); err != nil {
		t.Fatalf("audit of a whole server: %v\n%s", err, out)
	}
	forgetMost(t, srv)
	loseAllButMarkers(t, srv.engines.redis)
	if out, err := srv.tool("rebuild"); err != nil {
		t.Fatalf("rebuild: %v\n%s", err, out)
	}
	noCounts := func(err error) bool { // ClickHouse lacks rows: see forgetMost
		return err == nil || (errors.Is(err, errDrift) && !strings.Contains(err.Error(), "feeds"))
	}
	if out, err := srv.tool("audit", "--from", "clickhouse", "--json"); noCounts(err) {
		t.Fatalf("a log that has forgotten gave the feeds back:\n%s", out)
	}

	out, err := srv.tool("rebuild", "--from", "clickhouse")
	if err != nil {
		t.Fatalf("rebuild --from clickhouse: %v\n%s", err, out)
	}
	t.Log(out)
	if out, err := srv.tool("audit", "--from", "clickhouse", "--json"); !noCounts(err) {
		t.Errorf("audit after the rebuild: %v\n%s", err, out)
	}
	// And the counts, too, when the table has the end of the log again.
	if out, err := srv.tool("rebuild", "--analytics", "--not-in-log", "keep"); err != nil {
		t.Fatalf("rebuild --analytics: %v\n%s", err, out)
	}
	out, err = srv.tool("audit", "--from", "clickhouse")
	if err != nil {
		t.Errorf("audit at the end: %v\n%s", err, out)
	}
	t.Log(out)
}

// forgetMost leaves the last twenty records of each partition in the log, and takes the
// last ten of them from ClickHouse.
func forgetMost(t *testing.T, srv *serving) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends, err := srv.admin.EndOffsets(ctx, event.Topic)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(srv.cfg.Engines.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	forgotten := kadm.Offsets{}
	var last []string
	for partition, end := range ends {
		if end == 0 {
			continue
		}
		forgotten.AddOffset(event.Topic, partition, max(0, end-20), -1)
		last = append(last, fmt.Sprintf("log_partition = %d AND log_offset >= %d", partition, end-10))
	}
	answer, err := kadm.NewClient(client).DeleteRecords(ctx, forgotten)
	if err := errors.Join(err, answer.Error()); err != nil {
		t.Fatal(err)
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
	if err := conn.Exec(ctx, "ALTER TABLE activityfeed.events DELETE WHERE "+strings.Join(last, " OR ")+" SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
}
