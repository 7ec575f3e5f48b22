package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/delivery"
	"activityfeed/internal/record"
)

const (
	// refillRows is how many rows an insert of a refill has.
	refillRows = 50_000
	// refillsAtOnce is how many inserts are on their way while the next is decoded.
	refillsAtOnce = 2
	// refillPatience is how long ClickHouse may be away during a refill, and
	// refillPause the first pause between two tries.
	refillPatience = 2 * time.Minute
	refillPause    = 100 * time.Millisecond
	// clockSlack is how far the clocks of the servers of a cluster may be apart.
	clockSlack = time.Minute
)

// Tables makes the tables anew while they serve; see [Refill].
type Tables struct {
	cfg  Config
	to   target
	conn driver.Conn
	// servers are where a statement about a table has to run: one, who sends it round
	// if need be, or each server of an unreplicated cluster.
	servers []driver.Conn
	log     *slog.Logger
}

// OpenTables returns the Tables of a database whose schema is there. cfg names a user
// who may create and drop tables, and the cluster as the sink has it.
func OpenTables(cfg Config, log *slog.Logger) (*Tables, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	conn, err := open(cfg, "")
	if err != nil {
		return nil, err
	}
	servers, err := openEach(cfg)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if len(servers) == 0 {
		servers = []driver.Conn{conn}
	}
	return &Tables{cfg: cfg, to: targetOf(cfg), conn: conn, servers: servers, log: log}, nil
}

// Close closes the connections.
func (t *Tables) Close() error {
	var errs []error
	for _, conn := range append(t.servers, t.conn) {
		errs = append(errs, conn.Close()) // twice is no error
	}
	return errors.Join(errs...)
}

// Hold takes the right to make the tables anew; nobody else has it until release. The
// context ends with ctx, or when the hold is lost.
func (t *Tables) Hold(ctx context.Context) (held context.Context, release func(), err error) {
	return hold(ctx, t.conn, t.cfg.Database)
}

// Refill makes one table anew from its topic, beside the one that serves:
//
//	Begin; Add and Flush what the log has; Rest, and Keep or not; Add and Flush what
//	has come meanwhile; Swap; Add and Flush what came until then; Late; End
//
// Until Swap nothing changes for readers and for the sink, who goes on writing to the
// table that serves. Swap exchanges the two by name, in one step on each server. What
// the sink wrote to the old one after the last Add before Swap is in the log before
// the end that it has after Swap, so adding up to there makes the table whole; what
// both have added collapses as any repeat does.
//
// A Refill that is killed before Swap has changed nothing. Killed between Swap and the
// end of the last Flush, some rows of that moment are missing until the next one. Each
// drops what a killed one has left. A Refill is not safe for concurrent use, and needs
// the hold of its Tables.
type Refill struct {
	*Tables

	topic, table, id string
	newBlock         func() block

	// shadow is the name of the table that is filled, and after Swap of the old one.
	shadow string
	// into is the full name of where rows go.
	into string
	// begun is when the filling began, on the server's clock.
	begun time.Time

	rows    block
	origin  record.Origin // of the first of rows
	inserts *errgroup.Group
	failed  atomic.Bool
	added   atomic.Int64
}

// Refill returns the Refill of the table that a topic goes into: event.Topic or
// delivery.Topic.
func (t *Tables) Refill(topic string) *Refill {
	r := &Refill{Tables: t, topic: topic, table: "events", id: "event_id", newBlock: newRows}
	switch {
	case topic == delivery.Topic:
		r.table, r.id, r.newBlock = "deliveries", "fact_id", newFacts
	case t.cfg.OmitPosts:
		r.newBlock = newBareRows
	}
	r.inserts = new(errgroup.Group)
	r.inserts.SetLimit(refillsAtOnce)
	return r
}

// Table returns the name of the table.
func (r *Refill) Table() string { return r.table }

// Begin drops what a killed refill has left, and makes the empty table.
func (r *Refill) Begin(ctx context.Context) error {
	if err := r.dropLeftovers(ctx); err != nil {
		return fmt.Errorf("analytics: drop what an earlier rebuild of %s left: %w", r.table, err)
	}
	if err := r.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&r.begun); err != nil {
		return fmt.Errorf("analytics: rebuild %s: %w", r.table, err)
	}
	if r.to.Cluster != "" {
		r.begun = r.begun.Add(-clockSlack)
	}
	r.shadow = fmt.Sprintf("%s%x", r.leftover(), time.Now().UnixNano())
	r.into = r.to.Table(r.shadow)
	engine, err := r.localEngine(ctx)
	if err != nil {
		return err
	}
	statements := []string{fmt.Sprintf("CREATE TABLE %s %s AS %s %s", r.to.Local(r.shadow), r.to.OnCluster(), r.to.Local(r.table), engine)}
	if r.to.Cluster != "" {
		engine, err := r.distributedEngine(ctx)
		if err != nil {
			return err
		}
		statements = append(statements, fmt.Sprintf("CREATE TABLE %s %s AS %s ENGINE = %s", r.into, r.to.OnCluster(), r.to.Local(r.table), engine))
	}
	return r.everywhere(ctx, "make the table beside "+r.table, statements...)
}

// leftover is how the names of tables of refills begin.
func (r *Refill) leftover() string { return r.table + "_rebuild_" }

// localEngine returns the clause for the engine of the table that is filled: nothing,
// for that of the one that serves, but for a replicated one, whose path in Keeper must
// be its own. Without a path the server gives it one, as it did the other.
func (r *Refill) localEngine(ctx context.Context) (string, error) {
	if !r.to.replicated() {
		return "", nil
	}
	_, name, _ := strings.Cut(r.to.Local(r.table), ".")
	var engine string
	if err := r.conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = $1 AND name = $2",
		r.cfg.Database, name).Scan(&engine); err != nil {
		return "", fmt.Errorf("analytics: engine of %s: %w", name, err)
	}
	return "ENGINE = " + withoutPath(engine), nil
}

// replicaPath are the arguments of a replicated engine: its path and the replica's name.
var replicaPath = regexp.MustCompile(`^(Replicated\w*MergeTree)\('[^']*', '[^']*'\)`)

// withoutPath returns an engine without its place in Keeper.
func withoutPath(engine string) string { return replicaPath.ReplaceAllString(engine, "$1") }

// distributedEngine returns the engine of the distributed table over the rows of the
// one that is filled: the same shards by the same key.
func (r *Refill) distributedEngine(ctx context.Context) (string, error) {
	var engine string
	if err := r.conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = $1 AND name = $2",
		r.cfg.Database, r.table).Scan(&engine); err != nil {
		return "", fmt.Errorf("analytics: engine of %s: %w", r.table, err)
	}
	return strings.Replace(engine, "'"+r.table+"_local'", "'"+r.shadow+"_local'", 1), nil
}

func (r *Refill) dropLeftovers(ctx context.Context) error {
	for _, server := range r.servers {
		found, err := server.Query(ctx, "SELECT name FROM system.tables WHERE database = $1 AND startsWith(name, $2)", r.cfg.Database, r.leftover())
		if err != nil {
			return err
		}
		var names []string
		for found.Next() {
			var name string
			if err := found.Scan(&name); err != nil {
				return errors.Join(err, found.Close())
			}
			names = append(names, name)
		}
		if err := errors.Join(found.Err(), found.Close()); err != nil {
			return err
		}
		for _, name := range names {
			if err := r.statement(ctx, server, dropTable(r.to.Table(name), r.to)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Add takes a record of the topic. The error says that it can be no row, or
// event.ErrUnknownType; it is nothing of the table's. full says that it is time to
// Flush.
func (r *Refill) Add(msg *message.Message) (full bool, err error) {
	origin := record.OriginOf(msg.Context())
	rec := record.FromMessage(msg)
	rec.Offset, rec.Time = origin.Offset, origin.Time
	if r.rows == nil {
		r.rows = r.newBlock()
		r.rows.grow(refillRows)
	}
	if r.rows.len() == 0 {
		r.origin = origin
	}
	if err := addRecord(r.rows, record.Framed{Record: rec}, origin); err != nil {
		return false, err
	}
	r.added.Add(1)
	return r.rows.len() >= refillRows, nil
}

// Added returns how many rows were added so far.
func (r *Refill) Added() int64 { return r.added.Load() }

// Flush sends what was added on its way, and returns before it is there; call it at
// the end of a partition too, since a block has rows of one only. The error is that of
// an earlier one.
func (r *Refill) Flush(ctx context.Context) error {
	rows, origin, into := r.rows, r.origin, r.into
	r.rows = nil
	if r.failed.Load() {
		return r.Wait()
	}
	if rows == nil || rows.len() == 0 {
		return nil
	}
	r.inserts.Go(func() error {
		defer rows.release()
		err := r.insert(ctx, into, origin, rows)
		if err != nil {
			r.failed.Store(true)
		}
		return err
	})
	return nil
}

// Wait returns when all that was flushed is in the table.
func (r *Refill) Wait() error {
	err := r.inserts.Wait()
	r.inserts = new(errgroup.Group)
	r.inserts.SetLimit(refillsAtOnce)
	return err
}

// insert writes rows.
func (r *Refill) insert(ctx context.Context, into string, origin record.Origin, rows block) error {
	to := &store{conn: r.conn, table: into, timeout: r.cfg.SchemaTimeout}
	err := r.patiently(ctx, func() error {
		return to.insert(ctx, token(origin, rows, 0, rows.len()), rows, 0, rows.len())
	}, "topic", origin.Topic, "partition", origin.Partition, "offset", origin.Offset)
	if err != nil {
		return fmt.Errorf("analytics: insert %s-%d into %s: %w", origin, rows.place(rows.len()-1), into, err)
	}
	return nil
}

// patiently tries again when ClickHouse is away for a while; about is for the log.
func (r *Refill) patiently(ctx context.Context, try func() error, about ...any) error {
	begin := time.Now()
	for pause := refillPause; ; pause = min(2*pause, 5*time.Second) {
		err := try()
		if err == nil || ctx.Err() != nil || blameOf(err) != blameEngine || time.Since(begin) > refillPatience {
			return err
		}
		r.log.WarnContext(ctx, "rebuild: ClickHouse takes no insert, trying again", append(about, "err", err)...)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// statement runs one statement on one server.
func (t *Tables) statement(ctx context.Context, conn driver.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.SchemaTimeout)
	defer cancel()
	return conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"max_table_size_to_drop": 0, // the server's own limit is for people who mistype
	})), sql)
}

// everywhere runs statements wherever they have to.
func (t *Tables) everywhere(ctx context.Context, op string, statements ...string) error {
	for _, server := range t.servers {
		for _, sql := range statements {
			if err := t.statement(ctx, server, sql); err != nil {
				return fmt.Errorf("analytics: %s: %w", op, err)
			}
		}
	}
	return nil
}

func dropTable(name string, to target) string {
	return fmt.Sprintf("DROP TABLE IF EXISTS %s %s SYNC", name, to.OnCluster())
}
