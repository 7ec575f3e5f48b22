package analytics

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rebuild"
	"activityfeed/internal/testenv"
)

// content is all that a row of `events` says, but for when it came in.
const content = "SELECT " + insertColumns + " FROM {db}.events FINAL ORDER BY event_id, author_id"

// refillDeps are those of `activityfeed rebuild --analytics`.
func refillDeps(t testing.TB, brokers []string, table rebuild.Table) rebuild.RefillDeps {
	t.Helper()
	topics, err := kafka.NewScanner(brokers, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(topics.Close)
	return rebuild.RefillDeps{Log: testenv.Logger(t), Name: "events", Topics: topics, Topic: event.Topic, Table: table}
}

func openTables(t testing.TB, cfg Config) *Tables {
	t.Helper()
	tables, err := OpenTables(cfg, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tables.Close() })
	return tables
}

// filledTable returns a table that has the first n posts of a log, and the sink that goes on.
func filledTable(t testing.TB, n int) (*testTable, []string, *running) {
	t.Helper()
	table, brokers := newTable(t), newLog(t)
	publish(t, brokers, manyPhotos(0, n-1)...)
	r := run(t, table.cfg, brokers)
	await(t, fmt.Sprintf("%d rows", n), r.store.reached(n))
	return table, brokers, r
}

// refillEvents makes `events` anew.
func refillEvents(t testing.TB, cfg Config, brokers []string, change func(*rebuild.RefillDeps)) (rebuild.RefillResult, error) {
	t.Helper()
	tables := openTables(t, cfg)
	ctx, release, err := tables.Hold(t.Context())
	if err != nil {
		return rebuild.RefillResult{}, err
	}
	defer release()
	deps := refillDeps(t, brokers, tables.Refill(event.Topic))
	if change != nil {
		change(&deps)
	}
	return rebuild.Refill(ctx, rebuild.Config{}, deps, io.Discard)
}

// late lets something happen between the last look at the log and the swap.
type late struct {
	rebuild.Table

	before func()
}

func (l late) Swap(ctx context.Context) error { l.before(); return l.Table.Swap(ctx) }

// spoil removes rows by hand and changes others, in their key and beside it.
func spoil(table *testTable) {
	table.exec("ALTER TABLE {db}.events DELETE WHERE event_id % 7 = 0 SETTINGS mutations_sync = 2")
	table.exec("ALTER TABLE {db}.events UPDATE caption_length = 999, source = 'x' WHERE event_id % 7 = 1 SETTINGS mutations_sync = 2")
	table.exec("INSERT INTO {db}.events (event_id, event_type, event_time, author_id, actor_id) " +
		"SELECT event_id, event_type, event_time, 'mallory', actor_id FROM {db}.events WHERE event_id % 7 = 2")
}

// wantLikeTheLog compares the table with one that a sink of its own has filled.
func wantLikeTheLog(t *testing.T, table *testTable, brokers []string, n int) {
	t.Helper()
	other := newTable(t)
	a, err := newAnalyticsAs("other"+fmt.Sprint(time.Now().UnixNano()), other.cfg, brokers, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	store := &counting{inserter: a.sink.store}
	a.sink.store = store
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	await(t, "all rows of the log", store.reached(n))
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(other.lines(content), table.lines(content)); diff != "" {
		t.Errorf("the table beside the log (-log +table):\n%s", diff)
	}
	if got := table.lines("SELECT name FROM {db}.schema_migrations WHERE 0 UNION ALL SELECT name FROM system.tables WHERE database = '{db}' AND name LIKE '%rebuild%'"); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestRefillWhileEventsCome(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(0, 1999)...)
	publish(t, brokers, follow(2000, "bob", "ann"))
	r := run(t, table.cfg, brokers)
	await(t, "2001 rows", r.store.reached(2001))
	spoil(table)

	// Posts go on all the while, and some come at the worst moment: after the last look,
	// into the table that is about to go.
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 2001
		for ; ; n += 10 {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				publish(t, brokers, manyPhotos(n, n+9)...)
			}
		}
	}()
	published := 0
	result, err := refillEvents(t, table.cfg, brokers, func(deps *rebuild.RefillDeps) {
		deps.Table = late{deps.Table, func() {
			close(stop)
			published = <-stopped
			await(t, "the last posts in the old table", r.store.reached(published))
		}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Records != int64(published) || result.Rest.Rows != 0 {
		t.Errorf("the rebuild took %d records and found %d rows too many, want %d and none", result.Records, result.Rest.Rows, published)
	}
	publish(t, brokers, manyPhotos(published, published+99)...)
	await(t, "rows after the rebuild", r.store.reached(published+100))
	r.close()
	wantLikeTheLog(t, table, brokers, published+100)
	if got := table.count("SELECT uniqExact(event_id) FROM {db}.events"); got != published+100 {
		t.Errorf("%d events, want %d", got, published+100)
	}
}

// Poison that is replayed while the table is made anew may be of events that the log has
// forgotten: then nothing but the old table has them, whenever it was.
func TestRefillKeepsWhatIsReplayedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, notInLog := range []rebuild.NotInLog{rebuild.Refuse, rebuild.Keep, rebuild.Drop} {
		t.Run(string(notInLog), func(t *testing.T) {
			t.Parallel()
			table, brokers, r := filledTable(t, 100)
			_, err := refillEvents(t, table.cfg, brokers, func(deps *rebuild.RefillDeps) {
				deps.NotInLog = notInLog
				deps.Table = late{deps.Table, func() {
					publishTo(t, brokers, event.RetryTopic(Service), manyPhotos(100, 102)...)
					await(t, "the replayed in the old table", r.store.reached(103))
				}}
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := table.count("SELECT uniqExact(event_id) FROM {db}.events"); got != 103 {
				t.Errorf("%d events after the rebuild, want 103", got)
			}
			if got := table.count("SELECT count() FROM {db}.events WHERE log_topic != 'activity'"); got != 3 {
				t.Errorf("%d rows from elsewhere, want 3", got)
			}
		})
	}
}

// forget makes the log forget all but the last few records of each partition, and
// returns how many those are.
func forget(t *testing.T, brokers []string, but int64) (forgotten int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(t.Context(), event.Topic)
	if err := errors.Join(err, ends.Error()); err != nil {
		t.Fatal(err)
	}
	offsets := kadm.Offsets{}
	ends.Each(func(end kadm.ListedOffset) {
		before := max(end.Offset-but, 0)
		offsets.AddOffset(event.Topic, end.Partition, before, -1)
		forgotten += before
	})
	answer, err := admin.DeleteRecords(t.Context(), offsets)
	if err := errors.Join(err, answer.Error()); err != nil {
		t.Fatal(err)
	}
	return forgotten
}

func TestRefillFromAShortLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		notInLog rebuild.NotInLog
		want     int
	}{
		{"refused", "", 500},
		{"kept", rebuild.Keep, 500},
		{"dropped", rebuild.Drop, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table, brokers, r := filledTable(t, 500)
			r.close()
			before := table.lines(content)
			lost := forget(t, brokers, 3)

			result, err := refillEvents(t, table.cfg, brokers, func(deps *rebuild.RefillDeps) { deps.NotInLog = tt.notInLog })
			if refused := errors.Is(err, rebuild.ErrNotInLog); refused != (tt.notInLog == "") || (err != nil && !refused) {
				t.Fatalf("rebuild = %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%d of events, accepted from 2026-11-20 12:00:00 to", lost)) {
				t.Errorf("rebuild = %v, want it to say how many", err)
			}
			if result.Rest.Rows != lost {
				t.Errorf("%d rows are not in the log, want %d", result.Rest.Rows, lost)
			}
			after := table.lines(content)
			if tt.want == 0 {
				if int64(len(after)) != 500-lost {
					t.Errorf("%d rows after the rebuild, want %d", len(after), 500-lost)
				}
			} else if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the table (-before +after):\n%s", diff)
			}
		})
	}
}

// A log that was wiped begins again at offset 0: rows of the old one lie at places
// that the new one has not reached, and are none that are still to come.
func TestRefillKnowsRowsOfAnotherLog(t *testing.T) {
	t.Parallel()
	table, _, r := filledTable(t, 300)
	r.close()
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(300, 309)...)
	result, err := refillEvents(t, table.cfg, brokers, nil)
	if !errors.Is(err, rebuild.ErrNotInLog) || result.Rest.Rows != 300 {
		t.Errorf("rebuild from another log = %v with %d rows not there, want a refusal for 300", err, result.Rest.Rows)
	}
}

// The embedded engine replicates nothing, so this is what a replicated table is made
// from, as ClickHouse 26.7 says it beside a ZooKeeper. With the path of the other one it
// answers "replica already exists".
func TestAReplicatedTableHasAPathOfItsOwn(t *testing.T) {
	t.Parallel()
	const rest = " PARTITION BY toYYYYMM(event_time) ORDER BY (event_type, event_id) SETTINGS replicated_deduplication_window = 10000"
	for _, path := range []string{"/clickhouse/tables/{uuid}/{shard}", "/clickhouse/tables/db/events_local/1"} {
		got := withoutPath("ReplicatedReplacingMergeTree('" + path + "', '{replica}')" + rest)
		if want := "ReplicatedReplacingMergeTree" + rest; got != want {
			t.Errorf("withoutPath = %s, want %s", got, want)
		}
	}
}

func TestOneRefillAtATime(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	first := openTables(t, table.cfg)
	ctx, release, err := first.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := openTables(t, table.cfg).Hold(t.Context()); !errors.Is(err, errHeld) {
		t.Errorf("a second Hold = %v, want errHeld", err)
	}
	if ctx.Err() != nil {
		t.Errorf("the first one's context ended: %v", context.Cause(ctx))
	}
	release()
	_, release, err = openTables(t, table.cfg).Hold(t.Context())
	if err != nil {
		t.Fatalf("Hold after a release: %v", err)
	}
	release()

	ctx, release, err = first.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	table.exec("KILL QUERY WHERE query_id = 'activityfeed-rebuild-{db}' SYNC")
	await(t, "the end of a hold that is lost", ctx.Done())
	if !errors.Is(context.Cause(ctx), errHoldLost) {
		t.Errorf("a lost hold ends with %v, want errHoldLost", context.Cause(ctx))
	}
}

// refillEnv makes this test binary a rebuild that gets killed.
const refillEnv = "ANALYTICS_TEST_REFILL"

type refillSpec struct {
	Config  Config
	Brokers []string
	// Stage is where it waits to be killed.
	Stage string
}

// stages is a table that says where it is, and waits there.
type stages struct {
	rebuild.Table

	stage   string
	flushes int
}

func (s *stages) wait(stage string) {
	if stage == s.stage {
		fmt.Println(stage)
		select {}
	}
}

func (s *stages) Wait() error {
	err := s.Table.Wait()
	s.flushes++
	s.wait(fmt.Sprintf("filled %d", s.flushes))
	return err
}

func (s *stages) Swap(ctx context.Context) error {
	s.wait("before the swap")
	err := s.Table.Swap(ctx)
	s.wait("after the swap")
	return err
}

// runRefillChild rebuilds up to its stage.
func runRefillChild(spec string) int {
	var s refillSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := func() error {
		tables, err := OpenTables(s.Config, log)
		if err != nil {
			return err
		}
		ctx, _, err := tables.Hold(context.Background())
		if err != nil {
			return err
		}
		topics, err := kafka.NewScanner(s.Brokers, log)
		if err != nil {
			return err
		}
		_, err = rebuild.Refill(ctx, rebuild.Config{}, rebuild.RefillDeps{
			Log: log, Name: "events", Topics: topics, Topic: event.Topic, Table: &stages{Table: tables.Refill(event.Topic), stage: s.Stage},
		}, io.Discard)
		return err
	}()
	fmt.Fprintln(os.Stderr, "ended by itself:", err)
	return 1
}

func TestRefillAfterAKill(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"filled 1", "before the swap", "after the swap"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			table, brokers, r := filledTable(t, 800)
			spoil(table)
			spoiled := table.lines(content)

			spec, err := json.Marshal(refillSpec{table.cfg, brokers, stage})
			if err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), refillEnv+"="+string(spec))
			child.Stderr = os.Stderr
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			there := make(chan struct{})
			go func() {
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if lines.Text() == stage {
						close(there)
					}
				}
			}()
			await(t, stage, there)
			publish(t, brokers, manyPhotos(800, 899)...) // while the dead one lies there
			_ = child.Process.Kill()
			_ = child.Wait() // killed
			await(t, "rows after the kill", r.store.reached(900))
			// Those of before, as they were: a rebuild that dies early has changed nothing.
			if stage != "after the swap" {
				old := strings.Replace(content, "ORDER", fmt.Sprintf("WHERE event_id < %d ORDER", uint64(photo(800, "ann").ID)), 1)
				if diff := cmp.Diff(spoiled, table.lines(old)); diff != "" {
					t.Errorf("the table after the kill (-before +after):\n%s", diff)
				}
			}
			if _, err := refillEvents(t, table.cfg, brokers, nil); err != nil {
				t.Fatalf("rebuild after the kill: %v", err)
			}
			r.close()
			wantLikeTheLog(t, table, brokers, 900)
		})
	}
}
