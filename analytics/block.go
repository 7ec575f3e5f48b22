package analytics

import (
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"activityfeed/internal/record"
)

// block is a run of records as rows of one table, held as columns. Blocks are
// used again, so that a batch costs a few slices and no object a row.
type block interface {
	// take decodes a record and appends its row. The error is event.ErrUnknownType,
	// or says that the record can never be a row; nothing was appended then.
	take(rec record.Record, origin record.Origin) error
	// grow makes room for n more rows at once.
	grow(n int)
	// len is the number of rows.
	len() int
	// columns are the names for the INSERT, in the order of appendTo.
	columns() string
	// appendTo appends rows [from, to) to an INSERT, column by column.
	appendTo(batch driver.Batch, from, to int) error
	// id is the identity of a row: a repeat has the same.
	id(i int) uint64
	// record is where a row came from.
	record(i int) record.Record
	// oldest returns the earliest time of what the rows tell of.
	oldest() time.Time
	// release empties the block and keeps it for another batch.
	release()
}
