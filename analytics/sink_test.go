package analytics

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// Batches are inserted in the memory of those before them, and nothing of these shows.
func TestInsertsUseTheirColumnsAgain(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s, _ := newSink(t, table.store())
	several := photo(5, "dan")
	several.Data.(*pb.PhotoPosted).GetPhoto().Mentions = []string{"eve", "fay", "gus"}
	plain := photo(6, "hal")
	plain.Data.(*pb.PhotoPosted).GetPhoto().Mentions = nil
	for offset, events := range [][]event.Event{
		{photo(1, "ann"), follow(2, "bob", "ann"), photo(3, "cy")},
		{follow(4, "ann", "bob")},
		{several, plain, follow(7, "eve", "dan"), photo(8, "ann")},
	} {
		if err := s.handleBatch(batchOf(t, 1, recordsOf(t, int64(10*offset), events...)...)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"PhotoPosted ann ann  [bob]  0 1",
		"UserFollowed ann bob ann [] default 1 0",
		"PhotoPosted cy cy  [bob]  2 1",
		"UserFollowed bob ann bob [] default 10 0",
		"PhotoPosted dan dan  [eve, fay, gus]  20 1",
		"PhotoPosted hal hal  []  21 1",
		"UserFollowed dan eve dan [] default 22 0",
		"PhotoPosted ann ann  [bob]  23 1",
	}
	got := table.lines(`SELECT event_type, author_id, actor_id, target_id, mentions, notification_level, log_offset, original != ''
		FROM {db}.events ORDER BY event_id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestBatchBecomesRows(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s, poison := newSink(t, table.store())
	msg := batchOf(t, 1, recordsOf(t, 40, photo(1, "ann"), follow(2, "bob", "ann"))...)
	if err := s.handleBatch(msg); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"PhotoPosted 2026-11-20 12:00:00.001 ann ann  1 5 [bob]  post-1 activity 3 40",
		"UserFollowed 2026-11-20 12:00:00.002 ann bob ann 0 0 [] default post-1 activity 3 41",
	}
	got := table.lines(`SELECT event_type, event_time, author_id, actor_id, target_id, media_count, caption_length, mentions,
		notification_level, source, log_topic, log_partition, log_offset FROM {db}.events ORDER BY event_id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	original, err := proto.Marshal(photo(1, "ann").Data)
	if err != nil {
		t.Fatal(err)
	}
	wantKept := []string{"topic-id " + strings.ToUpper(hex.EncodeToString(original)), "topic-id "}
	if diff := cmp.Diff(wantKept, table.lines("SELECT log_id, hex(original) FROM {db}.events ORDER BY event_id")); diff != "" {
		t.Errorf("what is kept to make feeds anew (-want +got):\n%s", diff)
	}
	ids := table.lines("SELECT event_id, post_id FROM {db}.events ORDER BY event_id")
	wantIDs := []string{
		fmt.Sprintf("%s %s", photo(1, "ann").ID, photo(1, "ann").ID-1),
		fmt.Sprintf("%s 0", follow(2, "bob", "ann").ID),
	}
	if diff := cmp.Diff(wantIDs, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if len(poison.got) > 0 {
		t.Errorf("poison: %v", poison.got)
	}
}

func TestPostsAreNotKeptIfTheyShallNotBe(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s, _ := newSink(t, table.store())
	s.newBlock = newBareRows
	if err := s.handleBatch(batchOf(t, 1, recordsOf(t, 0, photo(1, "ann"))...)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"5 0"}, table.lines("SELECT caption_length, length(original) FROM {db}.events")); diff != "" {
		t.Errorf("the row (-want +got):\n%s", diff)
	}
}

func TestRepeatsCountOnce(t *testing.T) {
	t.Parallel()
	all := photos(0, 99)
	for _, tt := range []struct {
		name    string
		batches [][2]int // first and last offset of each batch, in order of arrival
		rows    int      // before any merge
	}{
		{"the same batch twice is one insert", [][2]int{{0, 99}, {0, 99}}, 100},
		{"cut otherwise after a crash", [][2]int{{0, 59}, {40, 99}, {0, 9}}, 130},
		{"one by one after a batch", [][2]int{{0, 99}, {98, 98}, {99, 99}, {99, 99}}, 102},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			table.exec("SYSTEM STOP MERGES {db}.events") // or the rows might collapse before we look
			records := recordsOf(t, 0, all...)
			for i, b := range tt.batches {
				s, _ := newSink(t, table.store()) // another process each time
				if err := s.handleBatch(batchOf(t, 1, records[b[0]:b[1]+1]...)); err != nil {
					t.Fatalf("batch %d: %v", i, err)
				}
			}
			if got := table.count("SELECT count() FROM {db}.events"); got != tt.rows {
				t.Errorf("the table holds %d rows, want %d: the token matters", got, tt.rows)
			}
			want := []string{"2026-11-20 PhotoPosted 100 2"}
			if diff := cmp.Diff(want, table.lines("SELECT * FROM {db}.posts_daily")); diff != "" {
				t.Errorf("posts_daily (-want +got):\n%s", diff)
			}
			wantTop := []string{"ann 50 0 0 0", "bob 50 0 0 0"}
			got := table.lines("SELECT author_id, posts, deleted, follows, unfollows FROM {db}.top_authors")
			if diff := cmp.Diff(wantTop, got); diff != "" {
				t.Errorf("top_authors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadRecordsAmongGoodOnes(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	// The engine refuses two rows for what is in them.
	table.exec("ALTER TABLE {db}.events ADD CONSTRAINT nobody CHECK author_id != 'mallory'")
	records := recsWithFaults(t)
	want := []buried{
		{1, event.ReasonUndecodable},
		{2, event.ReasonInvalid},
		{4, event.ReasonUndecodable},
		{5, event.ReasonInvalid},
		{7, reasonRefused},
		{9, reasonRefused},
	}
	s, poison := newSink(t, table.store())
	poison.fail = 1
	if err := s.handleBatch(batchOf(t, 1, records...)); fault.KindOf(err) == fault.Permanent || err == nil {
		t.Fatalf("with the poison topic away: %v, want an error that brings the batch back", err)
	}
	if err := s.handleBatch(batchOf(t, 2, records...)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, poison.got); diff != "" {
		t.Errorf("poison (-want +got):\n%s", diff)
	}
	wantRows := []string{"0", "6", "8", "10"}
	if diff := cmp.Diff(wantRows, table.lines("SELECT log_offset FROM {db}.events ORDER BY log_offset")); diff != "" {
		t.Errorf("offsets in the table (-want +got):\n%s", diff)
	}
}

// recsWithFaults returns offsets 0 to 10: good ones at 0, 6, 8, 10, an unknown
// type at 3, rows that a constraint on mallory refuses at 7 and 9, and records
// that are none of ours at the rest.
func recsWithFaults(t *testing.T) []record.Record {
	t.Helper()
	all := make([]event.Event, 0, 11)
	for n := range 11 {
		author := "ann"
		if n == 7 || n == 9 {
			author = "mallory"
		}
		all = append(all, photo(n, author))
	}
	records := recordsOf(t, 0, all...)
	records[1].Value = []byte{0xff, 0xff, 0xff}
	setHeader(records[2], record.IDHeader, "seven")
	setHeader(records[3], "ce_type", "activityfeed.v1.PhotoLiked")
	records[4].Headers = nil
	setHeader(records[5], "ce_time", "2300-01-01T00:00:00Z")
	return records
}

func setHeader(r record.Record, name, value string) {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			r.Headers[i].Value = []byte(value)
		}
	}
}

func TestRetryTopicTakesOneRecord(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s, poison := newSink(t, table.store())
	for i, e := range []event.Event{photo(1, "ann"), photo(1, "ann")} {
		msg, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			msg.Payload = []byte{0xff}
		}
		msg.SetContext(record.WithOrigin(t.Context(), record.Origin{
			Topic: event.RetryTopic(Service), TopicID: "retry", Offset: int64(i), LastOffset: int64(i), Time: day, Attempt: 1,
		}))
		if err := s.handleSingle(msg); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"analytics.retry 0"}, table.lines("SELECT log_topic, log_offset FROM {db}.events")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]buried{{1, event.ReasonUndecodable}}, poison.got); diff != "" {
		t.Errorf("poison (-want +got):\n%s", diff)
	}
}

// fakeStore answers inserts by the authors in them and keeps what went in.
type fakeStore struct {
	answer func(authors []string) error

	mu      sync.Mutex
	in      []string
	inserts int
	tokens  []string
}

func (f *fakeStore) insert(_ context.Context, token string, r block, from, to int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inserts++
	if err := f.answer(r.(*rows).authorID[from:to]); err != nil {
		return err
	}
	f.tokens = append(f.tokens, token)
	f.in = append(f.in, r.(*rows).authorID[from:to]...)
	return nil
}

func TestWhoIsBlamed(t *testing.T) {
	t.Parallel()
	refusing := func(err error, authors ...string) func([]string) error {
		return func(all []string) error {
			if slices.ContainsFunc(all, func(a string) bool { return slices.Contains(authors, a) }) {
				return err
			}
			return nil
		}
	}
	var (
		data    = &clickhouse.Exception{Code: 469}
		unknown = &clickhouse.Exception{Code: 49}
	)
	for _, tt := range []struct {
		name    string
		authors []string
		answer  func([]string) error
		attempt int

		wantKind    fault.Kind // of the error; Internal means none
		wantIn      []string
		wantBuried  []buried
		wantInserts int
	}{
		{
			name: "all is well", authors: []string{"a", "b"}, answer: refusing(data), attempt: 1,
			wantIn: []string{"a", "b"}, wantInserts: 1,
		},
		{
			name: "one bad row is found", authors: []string{"a", "b", "c", "d"}, answer: refusing(data, "c"), attempt: 1,
			wantIn: []string{"a", "b", "d"}, wantBuried: []buried{{2, reasonRefused}}, wantInserts: 5,
		},
		{
			name: "an engine error is nobody's fault", authors: []string{"a", "b"}, attempt: 100,
			answer:   refusing(&clickhouse.Exception{Code: 252}, "a"),
			wantKind: fault.Unavailable, wantInserts: 1,
		},
		{
			name: "no answer is nobody's fault", authors: []string{"a", "b"}, attempt: 100,
			answer:   refusing(syscall.ECONNRESET, "a"),
			wantKind: fault.Unavailable, wantInserts: 1,
		},
		{
			name: "an unknown error waits", authors: []string{"a", "b"}, attempt: 7, answer: refusing(unknown, "a"),
			wantKind: fault.Unavailable, wantInserts: 1,
		},
		{
			name: "an unknown error that stays is searched for", authors: []string{"a", "b"}, attempt: 8, answer: refusing(unknown, "a"),
			wantIn: []string{"b"}, wantBuried: []buried{{0, reasonRefused}}, wantInserts: 3,
		},
		{
			name: "an outage during the search", authors: []string{"a", "b", "c", "d"}, attempt: 1,
			answer: func(all []string) error {
				switch {
				case len(all) > 2:
					return data
				case slices.Contains(all, "c"):
					return &clickhouse.Exception{Code: 241}
				}
				return nil
			},
			wantKind: fault.Unavailable, wantIn: []string{"a", "b"}, wantInserts: 3,
		},
		{
			name: "a table that refuses everything is broken", authors: slices.Repeat([]string{"a"}, 64), attempt: 100,
			answer:   refusing(data, "a"),
			wantKind: fault.Unavailable, wantInserts: 26, // of 127: it stops at the 12th row
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := &fakeStore{answer: tt.answer}
			s, poison := newSink(t, store)
			var events []event.Event
			for n, author := range tt.authors {
				events = append(events, photo(n, author))
			}
			err := s.handleBatch(batchOf(t, tt.attempt, recordsOf(t, 0, events...)...))
			if fault.KindOf(err) != tt.wantKind || (err != nil) != (tt.wantKind != fault.Internal) {
				t.Errorf("handleBatch = %v, want kind %d", err, tt.wantKind)
			}
			if diff := cmp.Diff(tt.wantIn, store.in); diff != "" {
				t.Errorf("inserted (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantBuried, poison.got); diff != "" {
				t.Errorf("poison (-want +got):\n%s", diff)
			}
			if store.inserts != tt.wantInserts {
				t.Errorf("%d inserts, want %d", store.inserts, tt.wantInserts)
			}
		})
	}
}

func TestAFloodOfPoisonIsKept(t *testing.T) {
	t.Parallel()
	records := recordsOf(t, 0, photos(0, 99)...)
	for i := range records[:99] {
		records[i].Value = []byte{0xff}
	}
	s, poison := newSink(t, &fakeStore{answer: func([]string) error { return nil }})
	s.undecodable.limit, s.undecodable.tokens = 50, 50
	err := s.handleBatch(batchOf(t, 1, records...))
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("handleBatch of 99 bad records and a budget of 50 = %v, want an outage", err)
	}
	if len(poison.got) > 0 {
		t.Errorf("%d records were poisoned", len(poison.got))
	}
	if err := s.handleBatch(batchOf(t, 1, records[80:]...)); err != nil {
		t.Errorf("handleBatch of 19 bad ones beside a good one: %v", err)
	}
}

func TestAPanicIsHeldAgainstItsRecord(t *testing.T) {
	t.Parallel()
	err := addRecord(nil, record.Framed{Record: recordsOf(t, 0, photo(1, "ann"))[0]}, record.Origin{})
	if f := fault.Of(err); f == nil || f.Kind != fault.Permanent || f.Reason != "panic" {
		t.Errorf("addRecord with nowhere to add = %v, want poison for a panic", err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	origin := record.Origin{Topic: "activity", TopicID: "T", Partition: 3}
	build := func(offset int64, events ...event.Event) *rows {
		r := &rows{}
		for i, e := range events {
			if err := r.add(e, record.Framed{Record: record.Record{Offset: offset + int64(i)}}, origin); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	base := token(origin, build(5, photos(0, 9)...), 0, 10)
	if same := token(origin, build(5, photos(0, 9)...), 0, 10); same != base {
		t.Errorf("the same batch has tokens %q and %q", base, same)
	}
	other := origin
	other.TopicID = "U"
	for name, got := range map[string]string{
		"another range":     token(origin, build(5, photos(0, 9)...), 0, 9),
		"another place":     token(origin, build(6, photos(0, 9)...), 0, 10),
		"another log":       token(other, build(5, photos(0, 9)...), 0, 10),
		"another partition": token(record.Origin{Topic: "activity", TopicID: "T"}, build(5, photos(0, 9)...), 0, 10),
		// Offsets start again when a log is lost, and ClickHouse would drop these rows.
		"other events at the same place": token(origin, build(5, photos(10, 19)...), 0, 10),
	} {
		if got == base {
			t.Errorf("%s has the same token %q", name, got)
		}
	}
	if got := token(record.Origin{}, build(0, photos(0, 1)...), 0, 2); got != "" {
		t.Errorf("a batch from no log has token %q, want none", got)
	}
}

func TestABrokenBatchIsNoPoison(t *testing.T) {
	t.Parallel()
	store := &fakeStore{answer: func([]string) error { return nil }}
	s, poison := newSink(t, store)
	msg := batchOf(t, 1, recordsOf(t, 0, photos(0, 3)...)...)
	msg.Payload = msg.Payload[:len(msg.Payload)-1]
	if err := s.handleBatch(msg); err == nil {
		t.Error("a torn batch was acknowledged")
	}
	if store.inserts > 0 || len(poison.got) > 0 {
		t.Errorf("a torn batch made %d inserts and %d poison records", store.inserts, len(poison.got))
	}
}

func TestFailureIsOneLineAndAGrowingAge(t *testing.T) {
	t.Parallel()
	broken := true
	s, _ := newSink(t, &fakeStore{answer: func([]string) error {
		if broken {
			return errors.New("away")
		}
		return nil
	}})
	now := day
	s.now = func() time.Time { return now }
	batch := recordsOf(t, 0, photo(0, "ann"), photo(1, "ann"))
	for range 2 {
		now = now.Add(10 * time.Second)
		if err := s.handleBatch(batchOf(t, 1, batch...)); fault.KindOf(err) != fault.Unavailable {
			t.Fatal(err)
		}
	}
	if got := s.metrics.age(now); got != 20 {
		t.Errorf("while failing, the age is %v s, want 20", got)
	}
	if !s.failing.Load() {
		t.Error("the sink does not know that it fails")
	}
	broken = false
	if err := s.handleBatch(batchOf(t, 1, batch...)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if got := s.metrics.age(now); got != 20 {
		t.Errorf("an hour after the insert, the age is %v s, want 20: that of the last batch", got)
	}
	if s.failing.Load() {
		t.Error("the sink does not know that it recovered")
	}
}

// Every one of these was another default in some version of ClickHouse, and two
// of them lose rows or count them twice.
func TestInsertSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, token string
		want        clickhouse.Settings
	}{
		{"from the log", "T/3/5-9/abc", clickhouse.Settings{
			"async_insert": 0, "distributed_foreground_insert": 1, "max_partitions_per_insert_block": 0,
			"insert_allow_materialized_columns": 1, "insert_deduplicate": 1, "insert_deduplication_token": "T/3/5-9/abc",
			"deduplicate_blocks_in_dependent_materialized_views": 1,
		}},
		{"from nowhere", "", clickhouse.Settings{
			"async_insert": 0, "distributed_foreground_insert": 1, "max_partitions_per_insert_block": 0, "insert_deduplicate": 0,
			"insert_allow_materialized_columns": 1,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, insertSettings(tt.token)); diff != "" {
				t.Errorf("insertSettings (-want +got):\n%s", diff)
			}
		})
	}
}

// A rollup by materialized view is fed by inserts, so it must not see a repeat
// either; this is what the token's settings are for.
func TestARepeatIsNotSeenByARollup(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec(`CREATE MATERIALIZED VIEW {db}.rollup ENGINE = SummingMergeTree ORDER BY day
		SETTINGS non_replicated_deduplication_window = 1000
		AS SELECT toDate(event_time) AS day, count() AS n FROM {db}.events GROUP BY day`)
	records := recordsOf(t, 0, photos(0, 99)...)
	for range 3 {
		s, _ := newSink(t, table.store())
		if err := s.handleBatch(batchOf(t, 1, records...)); err != nil {
			t.Fatal(err)
		}
	}
	if got := table.count("SELECT sum(n) FROM {db}.rollup"); got != 100 {
		t.Errorf("the rollup counts %d, want 100", got)
	}
}
