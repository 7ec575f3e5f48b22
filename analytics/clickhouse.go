package analytics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// maxConns bounds the connections of one process: as many inserts may run at
// once as there are partitions assigned to us, and more wait for a connection.
const maxConns = 64

// open returns a pool that connects when it is first used, so it succeeds while
// ClickHouse is away. database may be empty: the server's default.
func open(cfg Config, database string) (driver.Conn, error) {
	options := &clickhouse.Options{
		Protocol: clickhouse.Native,
		Addr:     cfg.addrs(),
		Auth: clickhouse.Auth{
			Database: database,
			Username: cfg.Username,
			Password: cfg.Password,
		},
		ClientInfo: clickhouse.ClientInfo{Products: []struct{ Name, Version string }{
			{Name: "activityfeed", Version: Service},
		}},
		Compression:  &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout:  cfg.DialTimeout,
		MaxOpenConns: maxConns,
		MaxIdleConns: 8,
		// A server that comes back must not find us on a half-dead connection
		// for long, and addresses behind a name change.
		ConnMaxLifetime: 10 * time.Minute,
	}
	if cfg.Secure {
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("analytics: open %s: %w", cfg.Addr, err)
	}
	return conn, nil
}

// openEach returns a pool for each server of an unreplicated cluster, where the
// schema has to be made one by one; none otherwise.
func openEach(cfg Config) ([]driver.Conn, error) {
	if !cfg.Unreplicated {
		return nil, nil
	}
	var all []driver.Conn
	for _, addr := range cfg.addrs() {
		one := cfg
		one.Addr = addr
		conn, err := open(one, "")
		if err != nil {
			return nil, err
		}
		all = append(all, conn)
	}
	return all, nil
}

// Connect returns connections to cfg's ClickHouse, to no database in particular:
// for benchmarks and tests that look at what the sink did. It does not connect yet.
func Connect(cfg Config) (driver.Conn, error) { return open(cfg.withDefaults(), "") }

// store writes rows. It belongs to the sink.
type store struct {
	conn    driver.Conn
	table   string
	timeout time.Duration
	// sent are *columns of inserts that are over.
	sent sync.Pool
}

// insert writes rows [from, to) as one block under a token. ClickHouse drops a
// block whose token it has seen, so an insert whose answer was lost is repeated
// with the same token and lands once. An empty token means no such memory.
func (s *store) insert(ctx context.Context, token string, r block, from, to int) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	batch, err := s.conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings(token))),
		"INSERT INTO "+s.table+" ("+r.columns()+")")
	if err != nil {
		return err
	}
	// After Send or Abort this does nothing; after a panic it gives the connection back.
	defer batch.Close() //nolint:errcheck // err, or Send's, tells why
	earlier, _ := s.sent.Get().(*columns)
	columns := newColumns(batch, earlier)
	if err := errors.Join(r.appendTo(columns, from, to), columns.close()); err != nil {
		_ = batch.Abort() // err tells why
		return err
	}
	if err := batch.Send(); err != nil {
		return err
	}
	s.sent.Put(columns)
	return nil
}

// insertSettings are spelled out, because the defaults changed over the versions
// of ClickHouse (async_insert became 1, deduplication in views became on).
func insertSettings(token string) clickhouse.Settings {
	settings := clickhouse.Settings{
		// Our batches are large already, and a synchronous answer means "in the table".
		"async_insert": 0,
		// On a cluster too: the answer comes when the shards have the rows.
		"distributed_foreground_insert": 1,
		// A rebuild from the log spans years of months; a batch bounds it anyway.
		"max_partitions_per_insert_block": 0,
		"insert_deduplicate":              0,
		// What SELECT * need not show (schema/0004_originals.sql).
		"insert_allow_materialized_columns": 1,
	}
	if token != "" {
		settings["insert_deduplicate"] = 1
		settings["insert_deduplication_token"] = token
		// A later rollup by materialized view must not count the repeat either.
		settings["deduplicate_blocks_in_dependent_materialized_views"] = 1
	}
	return settings
}
