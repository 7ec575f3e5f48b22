package analytics

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/delivery"
	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

func newReader(t *testing.T, cfg Config) *Reader {
	t.Helper()
	r, err := OpenReader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// filled is a table with some posts, some of them twice and not merged.
func filled(t *testing.T) *testTable {
	t.Helper()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events")
	events := append(photos(0, 6), follow(7, "bob", "ann"), follow(8, "cy", "ann"))
	for _, from := range []int{0, 3} {
		s, _ := newSink(t, table.store())
		if err := s.handleBatch(batchOf(t, 1, recordsOf(t, int64(from), events[from:]...)...)); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func TestQueryPrints(t *testing.T) {
	t.Parallel()
	table := filled(t)
	r := newReader(t, table.cfg)
	const ready = "SELECT * FROM posts_daily;"
	const values = `SELECT number AS n, toUInt64(5000000000000000000) + number AS id, if(number = 1, NULL, 'a"b,c') AS s,
		[1, 2] AS list, map('k', 1.5) AS m, toDate('2026-11-20') AS d, toDateTime('2026-11-20 01:02:03', 'UTC') AS t,
		toDateTime64('2026-11-20 01:02:03.4', 3, 'UTC') AS t3, -1.25 AS f, 1/0 AS inf, 'esc\x1b[2J' AS ctl, true AS yes,
		toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0') AS u, toDecimal64('1.10', 2) AS dec, tuple(1, 'x') AS tup, toInt128(-7) AS big
		FROM numbers(2)`
	for _, tt := range []struct{ name, sql, format string }{
		{"posts_daily.txt", ready, FormatTable},
		{"posts_daily.csv", ready, FormatCSV},
		{"posts_daily.json", ready, FormatJSON},
		{"top_authors.txt", "SELECT * FROM top_authors", FormatTable},
		{"values.txt", values, FormatTable},
		{"values.csv", values, FormatCSV},
		{"values.json", values, FormatJSON},
		{"empty.txt", "SELECT 1 AS one WHERE 0", FormatTable},
		{"empty.csv", "SELECT 1 AS one WHERE 0", FormatCSV},
		{"empty.json", "SELECT 1 AS one WHERE 0", FormatJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := r.Query(t.Context(), &out, tt.sql, tt.format); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, out.String())
		})
	}
}

func TestQueryReadsWithoutRepeats(t *testing.T) {
	t.Parallel()
	table := filled(t)
	if got := table.count("SELECT count() FROM {db}.events"); got != 15 {
		t.Fatalf("the table holds %d rows, want 15: 9 events, 6 of them twice", got)
	}
	var out bytes.Buffer
	if err := newReader(t, table.cfg).Query(t.Context(), &out, "SELECT count() AS n FROM events", FormatCSV); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("n\n9\n", out.String()); diff != "" {
		t.Errorf("plain count (-want +got):\n%s", diff)
	}
}

func TestQueryRefuses(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	r := newReader(t, table.cfg)
	const writes = "this statement writes"
	for _, tt := range []struct{ name, sql, format, want string }{
		{"insert", "INSERT INTO events (event_id) VALUES (1)", "", writes},
		{"insert select", "INSERT INTO events (event_id) SELECT 1", "", writes},
		{"create", "CREATE TABLE x (a UInt8) ENGINE = Memory", "", writes},
		{"drop", "DROP TABLE events", "", writes},
		{"alter", "ALTER TABLE events DELETE WHERE 1", "", writes},
		{"truncate", "TRUNCATE TABLE events", "", writes},
		{"optimize", "OPTIMIZE TABLE events FINAL", "", writes},
		{"file", "SELECT * FROM file('/etc/passwd', 'LineAsString')", "", writes},
		{"out of read-only", "SELECT 1 SETTINGS readonly = 0", "", "leave out SETTINGS"},
		{"set", "SET readonly = 0", "", "leave out SETTINGS"},
		{"two statements", "SELECT 1; DROP TABLE events", "", "query"},
		{"nonsense", "SELEKT 1", "", "query: Syntax error: failed at position 8 (1)"},
		{"a fault further on", "SELECT 1\nFROM events\nWERE 1", "", "(line 3, col 6): 1"},
		{"a bracket too few", "SELECT (1", "", "failed at position 8"},
		{"nothing", " ;\n", "", "no query"},
		{"format", "SELECT 1", "yaml", `"yaml" is none of table, csv, json`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := r.Query(t.Context(), &out, tt.sql, tt.format)
			if err != nil && (strings.Contains(err.Error(), "code: ") || strings.Contains(err.Error(), "Expected one of")) {
				t.Errorf("Query(%s) = %v, want nothing that only ClickHouse's makers need", tt.sql, err)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Query(%s) = %v, want an error with %q", tt.sql, err, tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("Query(%s) printed %q", tt.sql, out.String())
			}
		})
	}
	if got := table.count("SELECT count() FROM system.tables WHERE database = '{db}'"); got != 10 {
		t.Errorf("%d tables are left, want 10", got)
	}
}

func TestQueryHasAnEnd(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	cfg := table.cfg
	cfg.QueryTimeout = time.Second
	err := newReader(t, cfg).Query(t.Context(), &bytes.Buffer{}, "SELECT sum(sipHash64(number)) FROM system.numbers", FormatTable)
	if err == nil {
		t.Fatal("an endless query ended by itself")
	}
	cfg = table.cfg
	cfg.QueryMemory = 16
	err = newReader(t, cfg).Query(t.Context(), &bytes.Buffer{}, "SELECT length(groupArray(number)) FROM numbers(100000000)", FormatTable)
	if err == nil || !strings.Contains(err.Error(), "needs more memory than one may use") || strings.Contains(err.Error(), "code: ") {
		t.Errorf("a query beyond its memory = %v, want it in plain words", err)
	}
	cfg = table.cfg
	cfg.QueryRows = 1000
	if err := newReader(t, cfg).Query(t.Context(), &bytes.Buffer{}, "SELECT number FROM numbers(1000)", FormatCSV); err != nil {
		t.Errorf("an answer of as many rows as it may have: %v", err)
	}
	err = newReader(t, cfg).Query(t.Context(), &bytes.Buffer{}, "SELECT number FROM numbers(1001)", FormatCSV)
	if err == nil || !strings.Contains(err.Error(), "too many rows") {
		t.Errorf("an answer with more rows = %v, want a refusal", err)
	}
}

func TestQueryWithoutAServerSaysSo(t *testing.T) {
	t.Parallel()
	r := newReader(t, Config{Addr: "127.0.0.1:1", DialTimeout: time.Second})
	if err := r.Query(t.Context(), &bytes.Buffer{}, "SELECT 1", FormatTable); err == nil {
		t.Error("Query without a server succeeded")
	}
}

// The analyst of the embedded engine is read-only by profile and may not send
// settings at all.
func TestQueryAsTheAnalyst(t *testing.T) {
	t.Parallel()
	server := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{})
	cfg := Config{Addr: server.Addr(), Username: embedded.ClickHouseUser, Password: server.Password()}.withDefaults()
	table := connect(t, cfg)
	if err := newSchema(t, cfg, table.conn).apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	table.exec("SYSTEM STOP MERGES {db}.events")
	for _, offset := range []int64{0, 1} { // the same event twice
		s, _ := newSink(t, table.store())
		if err := s.handleBatch(batchOf(t, 1, recordsOf(t, offset, photo(1, "ann"), photo(2+int(offset), "ann"))...)); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Username, cfg.Password = embedded.ClickHouseAnalyst, server.AnalystPassword()
	r := newReader(t, cfg)
	var out bytes.Buffer
	const question = "SELECT author_id, posts, (SELECT count() FROM events) AS n FROM top_authors"
	if err := r.Query(t.Context(), &out, question, FormatCSV); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("author_id,posts,n\nann,3,3\n", out.String()); diff != "" {
		t.Errorf("top_authors and a plain count as the analyst (-want +got):\n%s", diff)
	}
	for sql, want := range map[string]string{
		"SELECT number FROM numbers(100001)":                        "too many rows",
		"SELECT sum(number) FROM numbers(2000000000)":               "too much would have to be read",
		"SELECT length(groupArray(number)) FROM numbers(500000000)": "more memory than one may use",
	} {
		if err := r.Query(t.Context(), &bytes.Buffer{}, sql, FormatCSV); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as the analyst = %v, want %q", sql, err, want)
		}
	}
	for _, sql := range []string{"DROP TABLE events", "INSERT INTO events (event_id) VALUES (1)"} {
		if err := r.Query(t.Context(), &out, sql, FormatCSV); err == nil || !strings.Contains(err.Error(), "this user may not do that") {
			t.Errorf("%s as the analyst = %v, want a refusal", sql, err)
		}
	}
}

// No view counts anything twice while a repeat is not merged yet, also for who reads
// without FINAL.
func TestViewsCountRepeatsOnce(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events")
	table.exec("SYSTEM STOP MERGES {db}.deliveries")
	events := append(photos(0, 6), follow(7, "bob", "ann"), follow(8, "cy", "ann"), eventN(9, &pb.UserUnfollowed{FollowerId: "cy", FolloweeId: "ann"}))
	reports := []delivery.Fact{
		fanoutFact(0, 12, time.Second), pushFact(0, "fcm", "delivered"),
		delivery.Poisoned("notify", "invalid", "activityfeed.v1.PhotoPosted", record.Origin{Topic: event.Topic, TopicID: "t", Offset: 3, Time: day}, day),
	}
	var once [][]string
	for round := range 2 {
		s, _ := newSink(t, table.store())
		// From another place, so that no token knows the repeat.
		if err := s.handleBatch(batchOf(t, 1, recordsOf(t, int64(100*round), events...)...)); err != nil {
			t.Fatal(err)
		}
		s.store, s.newBlock = &store{conn: table.conn, table: table.cfg.Database + ".deliveries", timeout: time.Minute}, newFacts
		if err := s.handleBatch(batchOf(t, 1, factRecords(t, int64(100*round), reports...)...)); err != nil {
			t.Fatal(err)
		}
		if got := table.count("SELECT count() FROM {db}.events"); got != (round+1)*len(events) {
			t.Fatalf("the table holds %d rows after round %d", got, round)
		}
		for i, q := range Questions() {
			lines := table.lines("SELECT * FROM {db}." + q.Name)
			if round == 0 {
				once = append(once, lines)
			} else if diff := cmp.Diff(once[i], lines); diff != "" {
				t.Errorf("%s (-once +twice):\n%s", q.Name, diff)
			}
		}
	}
}
