package analytics

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	if spec := os.Getenv(refillEnv); spec != "" {
		os.Exit(runRefillChild(spec))
	}
	os.Exit(testenv.Main(m))
}

// day is when the events of these tests happen: within one month, so that they
// share a partition, and within one day.
var day = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// eventN returns the n-th event of a test. Ids and times depend on n alone.
func eventN(n int, data proto.Message) event.Event {
	at := day.Add(time.Duration(n) * time.Millisecond)
	return event.Event{ID: event.FirstID(at) + 1, Time: at, Source: "post-1", Data: data}
}

// photo is the n-th event: a post by author.
func photo(n int, author string) event.Event {
	return eventN(n, &pb.PhotoPosted{Photo: &pb.Photo{
		PostId:     event.FirstID(day.Add(time.Duration(n) * time.Millisecond)).String(),
		AuthorId:   author,
		Media:      []*pb.Media{{Url: "https://cdn.example.org/p.jpg", Width: 4, Height: 3}},
		Caption:    "Grüße",
		Mentions:   []string{"bob"},
		CreateTime: timestamppb.New(day),
	}})
}

// follow is the n-th event: follower follows followee.
func follow(n int, follower, followee string) event.Event {
	return eventN(n, &pb.UserFollowed{FollowerId: follower, FolloweeId: followee})
}

// photos returns the events first to last, posts of ann and bob in turn.
func photos(first, last int) []event.Event {
	var all []event.Event
	for n := first; n <= last; n++ {
		all = append(all, photo(n, []string{"ann", "bob"}[n%2]))
	}
	return all
}

// recordsOf puts events on a partition, from an offset on.
func recordsOf(t testing.TB, offset int64, events ...event.Event) []record.Record {
	t.Helper()
	all := make([]record.Record, 0, len(events))
	for i, e := range events {
		msg, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		r := record.FromMessage(msg)
		r.Offset, r.Time = offset+int64(i), e.Time
		all = append(all, r)
	}
	return all
}

// batchOf is how internal/kafka hands out a run of records.
func batchOf(t testing.TB, attempt int, records ...record.Record) *message.Message {
	t.Helper()
	var payload []byte
	for _, r := range records {
		payload = record.AppendBatch(payload, r)
	}
	msg := message.NewMessage("", payload)
	first, last := records[0], records[len(records)-1]
	msg.SetContext(record.WithOrigin(t.Context(), record.Origin{
		Topic: event.Topic, TopicID: "topic-id", Partition: 3,
		Offset: first.Offset, LastOffset: last.Offset, Time: first.Time, Attempt: attempt,
	}))
	return msg
}

// buried is what a test sees of the poison topic.
type buried struct {
	Offset int64
	Reason string
}

// fakePoison keeps what the sink poisons.
type fakePoison struct {
	mu   sync.Mutex
	got  []buried
	fail int // so many publishes fail first
}

func (f *fakePoison) PublishRecord(_ context.Context, r record.Record, reason string, _ error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errors.New("the log is away")
	}
	f.got = append(f.got, buried{r.Offset, reason})
	return nil
}

// newSink returns a sink over a store, with budgets as New gives them.
func newSink(t testing.TB, store inserter) (*sink, *fakePoison) {
	t.Helper()
	poison := &fakePoison{}
	return &sink{
		newBlock:    newRows,
		slots:       make(chan struct{}, 3),
		store:       store,
		poison:      poison,
		log:         testenv.Logger(t),
		metrics:     newMetrics(nil, time.Now),
		now:         time.Now,
		maxAttempts: 8,
		undecodable: newBudget(1000, 1, time.Minute, time.Now),
		refused:     newBudget(10, 0.02, 5*time.Minute, time.Now),
	}, poison
}

// testTable is a database of the test's own with the schema applied.
type testTable struct {
	t    testing.TB
	cfg  Config
	conn driver.Conn
}

func newTable(t testing.TB) *testTable {
	t.Helper()
	addr, database := testenv.ClickHouse(t)
	cfg := Config{Addr: addr, Database: database, Gather: -1}.withDefaults()
	table := connect(t, cfg)
	if err := newSchema(t, cfg, table.conn).apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	return table
}

func connect(t testing.TB, cfg Config) *testTable {
	t.Helper()
	conn, err := open(cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &testTable{t: t, cfg: cfg, conn: conn}
}

func newSchema(t testing.TB, cfg Config, conn driver.Conn) *schema {
	t.Helper()
	files, err := migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	return &schema{
		conn: conn, target: targetOf(cfg),
		ttl: cfg.TTL, timeout: time.Minute, files: files, log: testenv.Logger(t),
	}
}

func (tt *testTable) store() *store {
	return &store{conn: tt.conn, table: tt.cfg.Database + ".events", timeout: time.Minute}
}

// exec runs a statement in which {db} is the database.
func (tt *testTable) exec(sql string) {
	tt.t.Helper()
	if err := tt.conn.Exec(tt.t.Context(), strings.ReplaceAll(sql, "{db}", tt.cfg.Database)); err != nil {
		tt.t.Fatalf("%s: %v", sql, err)
	}
}

// lines returns a result as text: columns joined by spaces.
func (tt *testTable) lines(sql string) []string {
	tt.t.Helper()
	found, err := tt.conn.Query(tt.t.Context(), strings.ReplaceAll(sql, "{db}", tt.cfg.Database))
	if err != nil {
		tt.t.Fatalf("%s: %v", sql, err)
	}
	defer found.Close()
	lines := &lines{}
	if err := show(found, lines); err != nil {
		tt.t.Fatalf("%s: %v", sql, err)
	}
	return lines.all
}

// count returns the one number of a result.
func (tt *testTable) count(sql string) int {
	tt.t.Helper()
	n, err := strconv.Atoi(strings.Join(tt.lines(sql), ","))
	if err != nil {
		tt.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

type lines struct {
	fields []field
	all    []string
}

func (l *lines) header(fields []field) error { l.fields = fields; return nil }
func (l *lines) end() error                  { return nil }

func (l *lines) row(cells []any) error {
	parts := make([]string, 0, len(cells))
	for i, cell := range cells {
		parts = append(parts, l.fields[i].text(cell, "NULL"))
	}
	l.all = append(l.all, strings.Join(parts, " "))
	return nil
}
