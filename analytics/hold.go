package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	// codeQueryRuns is QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING.
	codeQueryRuns = 216
	// holdPatience is how long the query of a holder that was killed may outlive it:
	// the server finds out when it sends the next row, and that is every holdBeat.
	holdPatience = 10 * time.Second
	holdBeat     = 500 * time.Millisecond
)

// errHeld says that somebody else is making the tables anew.
var errHeld = errors.New("another rebuild of these tables is running")

// errHoldLost ends the context of a hold whose query has ended.
var errHoldLost = errors.New("the hold on the tables is lost: ClickHouse or the way to it went away")

// hold takes the right to make the tables of a database anew, so that no two do it at
// once. ClickHouse has no locks; but it runs no two queries of one id, and ends the
// query of a client that is gone. So the hold is a query that never ends by itself.
// The context ends with ctx, and when the hold is lost; release gives it back. The
// error is errHeld while another has it.
func hold(ctx context.Context, conn driver.Conn, database string) (held context.Context, release func(), err error) {
	query := clickhouse.Context(context.WithoutCancel(ctx), // with a deadline, a setting would end the query
		clickhouse.WithQueryID("activityfeed-rebuild-"+database),
		clickhouse.WithSettings(clickhouse.Settings{
			"max_block_size": 1, "function_sleep_max_microseconds_per_block": 0,
			"max_execution_time": 0, "max_rows_to_read": 0, "max_result_rows": 0,
		}))
	query, endQuery := context.WithCancel(query)
	rows, err := firstRow(ctx, func() (driver.Rows, error) {
		return conn.Query(query, fmt.Sprintf("SELECT sleepEachRow(%g) FROM system.numbers", holdBeat.Seconds()))
	})
	if err != nil {
		endQuery()
		return nil, nil, err
	}
	held, lose := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for rows.Next() {
		}
		lose(errors.Join(errHoldLost, rows.Err()))
		_ = rows.Close() // its error is that of rows.Err
	}()
	return held, func() { endQuery(); <-ended; lose(nil) }, nil
}

// firstRow begins a query until it runs.
func firstRow(ctx context.Context, begin func() (driver.Rows, error)) (driver.Rows, error) {
	for start := time.Now(); ; {
		rows, err := begin()
		if err == nil {
			if rows.Next() {
				return rows, nil
			}
			err = rows.Err()
			_ = rows.Close()
		}
		var exception *clickhouse.Exception
		if !errors.As(err, &exception) || exception.Code != codeQueryRuns {
			return nil, fmt.Errorf("analytics: hold the tables: %w", err)
		}
		if time.Since(start) > holdPatience {
			return nil, errHeld
		}
		timer := time.NewTimer(holdBeat)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}
