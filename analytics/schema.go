package analytics

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// errSchemaChanged says that a file which was applied is no longer the file that
// was applied. Waiting does not help: somebody has to add a new file instead.
var errSchemaChanged = errors.New("a schema file that is already applied was changed; put changes into a new numbered file")

// errSchemaWrong says that ClickHouse does not take a statement of a file, and never
// will: waiting does not help.
var errSchemaWrong = errors.New("ClickHouse refuses this statement of the schema")

// migration is one numbered file.
type migration struct {
	version  uint32
	name     string
	checksum string
	text     string
}

// migrations reads the numbered files of a directory, in order. Numbers start at
// 1 and leave no gap, so that two branches cannot both add a file unnoticed.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	all := make([]migration, 0, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil || version != uint64(i+1) {
			return nil, fmt.Errorf("analytics: %s: the number of file %d must be %04d", name, i+1, i+1)
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{
			version:  uint32(version),
			name:     path.Base(name),
			checksum: hex.EncodeToString(sum[:]),
			text:     string(text),
		})
	}
	return all, nil
}

// target is what the files are rendered for: one server, or a cluster.
type target struct {
	Database string
	Cluster  string
	// Unreplicated is Config.Unreplicated.
	Unreplicated bool
}

// targetOf returns what the files are rendered for.
func targetOf(cfg Config) target {
	return target{Database: cfg.Database, Cluster: cfg.Cluster, Unreplicated: cfg.Unreplicated}
}

// replicated says whether there is a Keeper to send statements round and to keep
// copies equal.
func (t target) replicated() bool { return t.Cluster != "" && !t.Unreplicated }

// Table returns the full name of what people read and the sink writes.
func (t target) Table(name string) string { return t.Database + "." + name }

// Local returns the full name of the table that holds the rows: on a cluster it
// stands below a distributed table of the plain name.
func (t target) Local(name string) string {
	if t.Cluster == "" {
		return t.Table(name)
	}
	return t.Table(name) + "_local"
}

// OnCluster returns the clause that sends a statement to every server.
func (t target) OnCluster() string {
	if !t.replicated() {
		return ""
	}
	return "ON CLUSTER '" + t.Cluster + "'"
}

// Engine returns a table engine of the MergeTree family, replicated on a cluster
// (path and replica name come from the servers' default_replica_path).
func (t target) Engine(name string) string {
	if !t.replicated() {
		return name
	}
	return "Replicated" + name
}

// DedupWindow returns the setting that makes a table remember insert tokens: the
// last 10,000 inserts, which is hours of ours. Plain tables remember none by default.
func (t target) DedupWindow() string {
	if !t.replicated() {
		return "non_replicated_deduplication_window = 10000"
	}
	return "replicated_deduplication_window = 10000"
}

// Distributed returns the statement for the table over the shards, nothing on one
// server. The key decides the shard: repeats of a row must meet on one.
func (t target) Distributed(name, key string) string {
	if t.Cluster == "" {
		return ""
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s %s AS %s ENGINE = Distributed('%s', '%s', '%s_local', %s);",
		t.Table(name), t.OnCluster(), t.Local(name), t.Cluster, t.Database, name, key)
}

// statements renders a file and splits it: a statement ends with ; at the end of
// a line. Comments stay inside, ClickHouse reads them.
func (m migration) statements(t target) ([]string, error) {
	parsed, err := template.New(m.name).Option("missingkey=error").Parse(m.text)
	if err != nil {
		return nil, fmt.Errorf("analytics: schema: %w", err)
	}
	var text bytes.Buffer
	if err := parsed.Execute(&text, t); err != nil {
		return nil, fmt.Errorf("analytics: schema: %w", err)
	}
	var all []string
	for statement := range strings.SplitSeq(text.String(), ";\n") {
		if strings.TrimSpace(statement) != "" {
			all = append(all, strings.TrimSpace(statement))
		}
	}
	return all, nil
}

// schema brings a database to the state of the files. ClickHouse has neither
// locks nor transactions for this, so every statement of every file can be run
// again (CREATE ... IF NOT EXISTS and the like, held by a test): any number of
// starters may run it at once, or die in the middle.
type schema struct {
	conn driver.Conn // of no particular database, which may not exist yet
	// others are the servers of an unreplicated cluster beside conn.
	others  []driver.Conn
	target  target
	ttl     time.Duration
	timeout time.Duration
	files   []migration
	log     *slog.Logger
}

// apply runs the files that are not recorded yet and then sets the TTL. It
// returns errSchemaChanged if a recorded file differs from ours, and errSchemaWrong if
// a statement can never be run. Where nobody sends
// statements round, it does so on every server.
func (s *schema) apply(ctx context.Context) error {
	if err := s.applyHere(ctx); err != nil {
		return err
	}
	for _, other := range s.others {
		one := *s
		one.conn = other
		if err := one.applyHere(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *schema) applyHere(ctx context.Context) error {
	if err := s.createDatabase(ctx); err != nil {
		return fmt.Errorf("analytics: create database %s: %w", s.target.Database, err)
	}
	if err := s.exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s %s (
    version    UInt32,
    name       String,
    checksum   String COMMENT 'SHA-256 of the file before rendering',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = %s ORDER BY (version, checksum)`,
		s.target.Table("schema_migrations"), s.target.OnCluster(), s.target.Engine("ReplacingMergeTree"))); err != nil {
		return fmt.Errorf("analytics: create schema_migrations: %w", err)
	}
	applied, err := s.applied(ctx)
	if err != nil {
		return fmt.Errorf("analytics: read schema_migrations: %w", err)
	}
	for _, file := range s.files {
		switch sums := applied[file.version]; {
		case len(sums) == 0:
			if err := s.run(ctx, file); err != nil {
				return fmt.Errorf("analytics: apply %s: %w", file.name, err)
			}
		case len(sums) > 1 || sums[0] != file.checksum:
			return fmt.Errorf("analytics: %s: applied with sha256 %s, is now %s: %w",
				file.name, strings.Join(sums, " and "), file.checksum, errSchemaChanged)
		}
	}
	for table, column := range map[string]string{"events": "event_time", "deliveries": "accept_time"} {
		if err := s.setTTL(ctx, table, column); err != nil {
			return fmt.Errorf("analytics: set TTL of %s: %w", table, err)
		}
	}
	return nil
}

// createDatabase asks first: a writer without the right to create databases is
// fine where an administrator has made it.
func (s *schema) createDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var there uint64
	err := s.conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = $1", s.target.Database).Scan(&there)
	if err != nil || there > 0 {
		return err
	}
	return s.conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+s.target.Database+" "+s.target.OnCluster())
}

// applied returns the recorded checksums of each version: one, unless two
// programs with different files started at once.
func (s *schema) applied(ctx context.Context) (map[uint32][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found, err := s.conn.Query(ctx, "SELECT DISTINCT version, checksum FROM "+s.target.Table("schema_migrations")+
		" ORDER BY version, checksum")
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	sums := map[uint32][]string{}
	for found.Next() {
		var version uint32
		var sum string
		if err := found.Scan(&version, &sum); err != nil {
			return nil, err
		}
		sums[version] = append(sums[version], sum)
	}
	return sums, found.Err()
}

// run executes a file and records it. Dying between the two repeats the file at
// the next start.
func (s *schema) run(ctx context.Context, file migration) error {
	statements, err := file.statements(s.target)
	if err != nil {
		return err
	}
	for i, statement := range statements {
		if err := s.exec(ctx, statement); err != nil {
			err = fmt.Errorf("statement %d (%s): %w", i+1, firstLine(statement), err)
			if wrongSQL(err) {
				return fmt.Errorf("%w: %w", errSchemaWrong, err)
			}
			return err
		}
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0}))
	if err := s.exec(ctx, "INSERT INTO "+s.target.Table("schema_migrations")+" (version, name, checksum) VALUES ($1, $2, $3)",
		file.version, file.name, file.checksum); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	s.log.InfoContext(ctx, "analytics: schema file applied", "file", file.name)
	return nil
}

// firstLine returns the first line of a statement that is no comment, to name it.
func firstLine(statement string) string {
	for line := range strings.SplitSeq(statement, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			return line
		}
	}
	return ""
}

// setTTL changes the TTL of a table if it is not what is asked for. It is no
// part of the files, because an operator may change it at any start.
func (s *schema) setTTL(ctx context.Context, name, column string) error {
	_, table, _ := strings.Cut(s.target.Local(name), ".")
	readCtx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var engine string
	if err := s.conn.QueryRow(readCtx, "SELECT engine_full FROM system.tables WHERE database = $1 AND name = $2",
		s.target.Database, table).Scan(&engine); err != nil {
		return err
	}
	alter := "ALTER TABLE " + s.target.Local(name) + " " + s.target.OnCluster()
	if s.ttl == 0 {
		if !strings.Contains(engine, " TTL ") {
			return nil
		}
		return s.exec(ctx, alter+" REMOVE TTL")
	}
	ttl := fmt.Sprintf("TTL toDateTime(%s) + toIntervalSecond(%d)", column, int64(s.ttl/time.Second))
	if strings.Contains(engine, " "+ttl+" ") {
		return nil
	}
	return s.exec(ctx, alter+" MODIFY "+ttl)
}

// exec runs one statement with a deadline.
func (s *schema) exec(ctx context.Context, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.conn.Exec(ctx, statement, args...)
}
