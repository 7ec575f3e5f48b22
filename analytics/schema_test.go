package analytics

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/testenv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, go test -update writes it):\n%s", file, diff)
	}
}

func rendered(t *testing.T, to target) []string {
	t.Helper()
	files, err := migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		statements, err := file.statements(to)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, statements...)
	}
	return all
}

func TestSchemaRendersForAServerAndForACluster(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, file string
		target     target
	}{
		{"one server", "schema_single.sql", target{Database: "db"}},
		{"cluster", "schema_cluster.sql", target{Database: "db", Cluster: "main"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			golden(t, tt.file, strings.Join(rendered(t, tt.target), ";\n\n")+";\n")
		})
	}
}

// There are no locks and no transactions around the files: what is not repeatable
// breaks the second of two starters.
func TestEveryStatementCanBeRepeated(t *testing.T) {
	t.Parallel()
	repeatable := regexp.MustCompile(`^(CREATE (TABLE|VIEW|MATERIALIZED VIEW|DICTIONARY) IF NOT EXISTS|CREATE OR REPLACE VIEW|` +
		`ALTER TABLE \S+( ON CLUSTER \S+)? (ADD (COLUMN|INDEX|PROJECTION) IF NOT EXISTS|MODIFY|DROP (COLUMN|INDEX) IF EXISTS)|DROP (TABLE|VIEW) IF EXISTS) `)
	comments := regexp.MustCompile(`(?m)^--.*\n`)
	for _, statement := range rendered(t, target{Database: "db", Cluster: "main"}) {
		if bare := strings.TrimSpace(comments.ReplaceAllString(statement, "")); !repeatable.MatchString(bare) {
			t.Errorf("not known to be repeatable: %.200s", bare)
		}
	}
}

func TestMigrationsRefuseGapsInNumbers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files fstest.MapFS
	}{
		{"gap", fstest.MapFS{"schema/0001_a.sql": {}, "schema/0003_b.sql": {}}},
		{"twice", fstest.MapFS{"schema/0001_a.sql": {}, "schema/0001_b.sql": {}}},
		{"no number", fstest.MapFS{"schema/a.sql": {}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := migrations(tt.files); err == nil {
				t.Errorf("migrations() = %v, want an error", got)
			}
		})
	}
}

func TestSchemaByManyStarters(t *testing.T) {
	t.Parallel()
	const starters = 8
	addr, database := testenv.ClickHouse(t)
	cfg := Config{Addr: addr, Database: database, TTL: 20 * 365 * 24 * time.Hour}.withDefaults()
	table := connect(t, cfg)
	table.exec("DROP DATABASE {db} SYNC") // the first starter makes it
	schemas := make([]*schema, starters)
	for i := range schemas {
		schemas[i] = newSchema(t, cfg, connect(t, cfg).conn)
	}
	errs := make([]error, starters)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i, s := range schemas {
		all.Go(func() {
			<-begin
			errs[i] = s.apply(t.Context())
		})
	}
	close(begin)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("apply by %d starters: %v", starters, err)
	}
	want := []string{"1 0001_events.sql 1", "2 0002_views.sql 1", "3 0003_deliveries.sql 1", "4 0004_originals.sql 1"}
	got := table.lines("SELECT version, name, uniqExact(checksum) FROM {db}.schema_migrations GROUP BY version, name ORDER BY version")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("recorded files (-want +got):\n%s", diff)
	}
	wantTables := []string{
		"deliveries", "events", "feed_freshness", "follower_growth", "poison_reasons", "posts_daily", "push_outcomes",
		"retention", "schema_migrations", "top_authors",
	}
	if diff := cmp.Diff(wantTables, table.lines("SELECT name FROM system.tables WHERE database = '{db}' ORDER BY name")); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

func TestSchemaAfterADeathInTheMiddle(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	// Dead after the statements, before the record.
	table.exec("TRUNCATE TABLE {db}.schema_migrations")
	table.exec("DROP VIEW {db}.top_authors")
	if err := newSchema(t, table.cfg, table.conn).apply(t.Context()); err != nil {
		t.Fatalf("apply again: %v", err)
	}
	if got := table.count("SELECT count() FROM {db}.schema_migrations FINAL"); got != 4 {
		t.Errorf("%d files recorded, want 4", got)
	}
	if got := table.count("SELECT count() FROM {db}.top_authors"); got != 0 {
		t.Errorf("top_authors has %d rows, want 0", got)
	}
}

func TestSchemaRefusesAChangedFile(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s := newSchema(t, table.cfg, table.conn)
	s.files[0].checksum = "another"
	err := s.apply(t.Context())
	if !errors.Is(err, errSchemaChanged) || !strings.Contains(err.Error(), "0001_events.sql") {
		t.Errorf("apply of a changed file = %v, want errSchemaChanged that names it", err)
	}
}

func TestSchemaToleratesANewerOne(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("INSERT INTO {db}.schema_migrations (version, name, checksum) VALUES (99, '0099_later.sql', 'x')")
	if err := newSchema(t, table.cfg, table.conn).apply(t.Context()); err != nil {
		t.Errorf("apply beside a newer version's file: %v", err)
	}
}

func TestTTLFollowsTheSetting(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, step := range []struct {
		ttl  time.Duration
		want string
	}{
		{0, ""},
		{time.Hour, "TTL toDateTime(event_time) + toIntervalSecond(3600)"},
		{time.Hour, "TTL toDateTime(event_time) + toIntervalSecond(3600)"},
		{48 * time.Hour, "TTL toDateTime(event_time) + toIntervalSecond(172800)"},
		{0, ""},
		{0, ""},
	} {
		s := newSchema(t, table.cfg, table.conn)
		s.ttl = step.ttl
		if err := s.apply(t.Context()); err != nil {
			t.Fatalf("apply with TTL %v: %v", step.ttl, err)
		}
		got := strings.Join(table.lines(`SELECT extract(engine_full, 'TTL .*\\)') FROM system.tables WHERE database = '{db}' AND name = 'events'`), "")
		if got != step.want {
			t.Errorf("with TTL %v the table has %q, want %q", step.ttl, got, step.want)
		}
	}
}

// A statement that can never be run ends the start, and says which it is; what may
// pass is waited for.
func TestSchemaThatIsNoSQLIsNoOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, want string
		wrong            bool
	}{
		{"no SQL", "-- Why.\nCREATE VEIW {{.Table \"x\"}} AS SELECT 1;\n", "statement 1 (CREATE VEIW", true},
		{"no such column", "SELECT 1;\nCREATE VIEW {{.Table \"x\"}} AS SELECT nothing FROM {{.Table \"events\"}};\n", "statement 2 (CREATE VIEW", true},
		{"no such function", "CREATE VIEW {{.Table \"x\"}} AS SELECT no_such_function(1);\n", "statement 1", true},
		{"no such type", "ALTER TABLE {{.Table \"events\"}} ADD COLUMN x Nothing64;\n", "statement 1", true},
		{"no such table", "ALTER TABLE {{.Table \"nothing\"}} ADD COLUMN x UInt8;\n", "statement 1", true},
		{"a limit of the server", "SELECT throwIf(1, 'full', 241::Int16) SETTINGS allow_custom_error_code_in_throwif = 1;\n", "statement 1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			a, err := newAnalytics(table.cfg, []string{"127.0.0.1:1"}, testenv.Logger(t))
			if err != nil {
				t.Fatal(err)
			}
			a.schema.files = append(a.schema.files, migration{version: uint32(len(a.schema.files) + 1), name: "0099_bad.sql", text: tt.text})
			err = a.schema.apply(t.Context())
			if got := errors.Is(err, errSchemaWrong); got != tt.wrong {
				t.Fatalf("apply = %v; is it wrong: %t, want %t", err, got, tt.wrong)
			}
			if !strings.Contains(err.Error(), "0099_bad.sql") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("apply = %v, want the file and %q in it", err, tt.want)
			}
			if !tt.wrong {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := a.Run(ctx); !errors.Is(err, errSchemaWrong) {
				t.Errorf("Run = %v, want errSchemaWrong at once", err)
			}
		})
	}
}
