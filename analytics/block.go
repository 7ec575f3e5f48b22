package analytics

import (
	"time"

	"activityfeed/internal/record"
)

// block is a run of records as rows of one table, held as columns. Blocks are
// used again, so that a batch costs a few slices and no object a row.
type block interface {
	// take decodes a record and appends its row. The error is event.ErrUnknownType,
	// or says that the record can never be a row; nothing was appended then. The
	// headers of the record are not kept, its frame is.
	take(rec record.Framed, origin record.Origin) error
	// grow makes room for n more rows at once.
	grow(n int)
	// len is the number of rows.
	len() int
	// columns are the names for the INSERT, in the order of appendTo.
	columns() string
	// appendTo appends rows [from, to) to an INSERT, column by column.
	appendTo(c *columns, from, to int) error
	// id is the identity of a row: a repeat has the same.
	id(i int) uint64
	// place is the offset of a row's record in its partition.
	place(i int) int64
	// record is where a row came from.
	record(i int) record.Record
	// oldest returns the earliest time of what the rows tell of.
	oldest() time.Time
	// release empties the block and keeps it for another batch.
	release()
}
