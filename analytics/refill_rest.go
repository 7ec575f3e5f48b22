package analytics

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// keepAtOnce is how many rows are carried over in one statement, whose ids the server
// holds in memory.
const keepAtOnce = 2_000_000

// Rest tells what the table has and the log has not, when all of the log before these
// ends was added: rows that were stored before the log's beginning, or from another
// log. What lies behind the ends and came since Begin is no rest: it is still to be
// added. It returns how many these are, and when the first and the last was accepted.
func (r *Refill) Rest(ctx context.Context, ends map[int32]int64) (n int64, from, to time.Time, err error) {
	var rows uint64
	err = r.conn.QueryRow(r.spilling(ctx), fmt.Sprintf("SELECT count(), min(at), max(at) FROM (%s)", r.missing(ends, ""))).
		Scan(&rows, &from, &to)
	if err != nil {
		return 0, from, to, fmt.Errorf("analytics: look for rows of %s that the log has not: %w", r.table, err)
	}
	return int64(rows), from, to, nil
}

// Keep carries the rest, that many rows, over into the table that is filled.
func (r *Refill) Keep(ctx context.Context, rest int64, ends map[int32]int64) error {
	columns := r.keptColumns()
	ctx = r.keeping(ctx)
	parts := rest/keepAtOnce + 1
	for part := range parts {
		only := fmt.Sprintf("%s %% %d = %d", r.id, parts, part)
		sql := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s AND %s GLOBAL IN (SELECT %s FROM (%s))",
			r.into, columns, columns, r.to.Table(r.table), only, r.id, r.id, r.missing(ends, only))
		if err := r.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("analytics: carry rows of %s over: %w", r.table, err)
		}
	}
	return nil
}

// Late carries over, after Swap, what came into the old table since Begin and is not of
// the topic: events replayed from poison, which the log may have forgotten. An insert
// that was under way at the Swap had all the time of the last Add to end.
func (r *Refill) Late(ctx context.Context) error {
	sql := fmt.Sprintf("INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM %[3]s WHERE log_topic != '%[4]s' AND inserted_at >= fromUnixTimestamp64Milli(toInt64(%[5]d))",
		r.into, r.keptColumns(), r.to.Table(r.shadow), r.topic, r.begun.UnixMilli())
	// Nobody could do it later: the old table goes.
	err := r.patiently(ctx, func() error { return r.conn.Exec(r.keeping(ctx), sql) }, "table", r.table)
	if err != nil {
		return fmt.Errorf("analytics: the new table of %s serves; carry over what was replayed meanwhile: %w", r.table, err)
	}
	return nil
}

// keptColumns are those of a row that is carried over: it keeps when it came in.
func (r *Refill) keptColumns() string { return r.newBlock().columns() + ", inserted_at" }

// keeping is for statements that carry rows over.
func (r *Refill) keeping(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_allow_materialized_columns": 1,
		"distributed_foreground_insert":     1,
		"max_partitions_per_insert_block":   0,
		// The shards would each insert for themselves, where 26.7 forgets that materialized
		// columns were allowed.
		"parallel_distributed_insert_select": 0,
		"max_execution_time":                 0,
		"max_bytes_before_external_group_by": r.cfg.QueryMemory << 19, // half of it
	}))
}

// spilling is for questions about all rows: they take disk, not memory, and the time
// that they take.
func (r *Refill) spilling(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"max_bytes_before_external_group_by": r.cfg.QueryMemory << 19, // half of it
		"max_execution_time":                 0,
	}))
}

// missing is the question for the ids that the table has and the other has not.
func (r *Refill) missing(ends map[int32]int64, only string) string {
	at := "event_time"
	if r.table == "deliveries" {
		at = "accept_time"
	}
	later := make([]string, 0, len(ends))
	for _, partition := range slices.Sorted(maps.Keys(ends)) {
		later = append(later, fmt.Sprintf("log_partition = %d AND log_offset >= %d", partition, ends[partition]))
	}
	if len(later) == 0 {
		later = []string{"0"}
	}
	if only == "" {
		only = "1"
	}
	return fmt.Sprintf(`SELECT %[1]s, min(at) AS at FROM (
    SELECT %[1]s, %[2]s AS at, 0 AS here FROM %[3]s
    WHERE %[7]s AND NOT (log_topic = '%[5]s' AND inserted_at >= fromUnixTimestamp64Milli(toInt64(%[6]d)) AND (%[8]s))
    UNION ALL
    SELECT %[1]s, %[2]s, 1 FROM %[4]s WHERE %[7]s
) GROUP BY %[1]s HAVING max(here) = 0`,
		r.id, at, r.to.Table(r.table), r.into, r.topic, r.begun.UnixMilli(), only, strings.Join(later, " OR "))
}

// Swap puts the new table in the place of the old one. What is added from now on goes
// into the new one under the old name.
func (r *Refill) Swap(ctx context.Context) error {
	err := r.everywhere(ctx, "put the new "+r.table+" in its place", fmt.Sprintf("EXCHANGE TABLES %s AND %s %s",
		r.to.Local(r.table), r.to.Local(r.shadow), r.to.OnCluster()))
	if err != nil {
		return err
	}
	r.into = r.to.Table(r.table)
	return nil
}

// End drops the table that does not serve: the old one after Swap, else the new one.
func (r *Refill) End(ctx context.Context) error {
	if r.shadow == "" {
		return nil
	}
	statements := []string{dropTable(r.to.Local(r.shadow), r.to)}
	if r.to.Cluster != "" {
		statements = append([]string{dropTable(r.to.Table(r.shadow), r.to)}, statements...)
	}
	return r.everywhere(ctx, "drop the table beside "+r.table, statements...)
}
