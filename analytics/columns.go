package analytics

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// columns are the columns of an INSERT, which blocks append to. What is LowCardinality
// or an array is kept back until all is there: the driver would box each value and look
// it up by reflection, which took as long as all other columns together.
type columns struct {
	batch driver.Batch
	all   []column.Interface
	// kept is nil where the driver takes the column as it is.
	kept []keptColumn
	// text is what was kept back, as it travels.
	text []byte
}

// keptColumn is a column that is encoded here.
type keptColumn interface {
	rows() int
	reset()
	// encode appends the column in ClickHouse's Native format.
	encode(to []byte) []byte
}

// newColumns returns the columns of a batch, in the memory of those of an earlier one
// that was sent. A batch of 50,000 rows takes 12 MB; grown anew each time, that was a
// third of all garbage of the sink. earlier may be nil.
func newColumns(batch driver.Batch, earlier *columns) *columns {
	c := &columns{batch: batch, all: batch.Columns()}
	c.kept = make([]keptColumn, len(c.all))
	if earlier != nil && len(earlier.all) == len(c.all) {
		c.text = earlier.text[:0]
		copy(c.kept, earlier.kept)
	} else {
		earlier = nil
	}
	for i, one := range c.all {
		if earlier != nil && one.Name() == earlier.all[i].Name() && one.Type() == earlier.all[i].Type() {
			reuse(one, earlier.all[i])
			if c.kept[i] != nil {
				c.kept[i].reset()
			}
			continue
		}
		switch one.Type() {
		case "LowCardinality(String)":
			c.kept[i] = &lowColumn{}
		case "Array(String)":
			c.kept[i] = &listColumn{}
		default:
			c.kept[i] = nil
		}
	}
	return c
}

// reuse gives a column of the driver the memory of another one of its name and type,
// which nobody uses any more. Of another kind it leaves the column as it is.
func reuse(to, from column.Interface) {
	from.Reset()
	switch to := to.(type) {
	case *column.String:
		move(to, from)
	case *column.UInt64:
		move(to, from)
	case *column.Int64:
		move(to, from)
	case *column.UInt32:
		move(to, from)
	case *column.Int32:
		move(to, from)
	case *column.UInt16:
		move(to, from)
	case *column.UInt8:
		move(to, from)
	case *column.DateTime64:
		move(to, from)
	case *column.LowCardinality:
		move(to, from)
	case *column.Array:
		move(to, from)
	}
}

func move[T any](to *T, from column.Interface) {
	if same, ok := from.(any).(*T); ok {
		*to = *same
	}
}

// append appends a slice of values to column i.
func (c *columns) append(i int, values any) error {
	if names, ok := values.([]string); ok {
		if low, ok := c.kept[i].(*lowColumn); ok {
			low.append(names)
			return nil
		}
	}
	return c.batch.Column(i).Append(values)
}

// repeat appends the same text n times to column i.
func (c *columns) repeat(i int, name string, n int) error {
	low, ok := c.kept[i].(*lowColumn)
	if !ok {
		return fmt.Errorf("column %s is %s, want LowCardinality(String)", c.all[i].Name(), c.all[i].Type())
	}
	low.repeat(name, n)
	return nil
}

// appendLists appends rows of several texts each to column i: those of a row end where
// ends says, counted from the first row's beginning.
func (c *columns) appendLists(i int, names []string, begin uint32, ends []uint32) error {
	list, ok := c.kept[i].(*listColumn)
	if !ok {
		return fmt.Errorf("column %s is %s, want Array(String)", c.all[i].Name(), c.all[i].Type())
	}
	list.append(names, begin, ends)
	return nil
}

// close gives the driver what was kept back.
func (c *columns) close() error {
	for _, kept := range c.kept {
		if kept != nil {
			c.text = kept.encode(c.text)
		}
	}
	reader := proto.NewReader(bytes.NewReader(c.text))
	for i, kept := range c.kept {
		if kept == nil {
			continue
		}
		// As if it had come from a server: the driver sends such a column as it is.
		if err := c.all[i].Decode(reader, kept.rows()); err != nil {
			return fmt.Errorf("column %s: %w", c.all[i].Name(), err)
		}
	}
	return nil
}

// listColumn is an Array(String) column: where the rows end, and the texts of all.
type listColumn struct {
	ends  []uint64
	total uint64
	texts []byte
}

func (l *listColumn) rows() int { return len(l.ends) }
func (l *listColumn) reset()    { l.ends, l.total, l.texts = l.ends[:0], 0, l.texts[:0] }

func (l *listColumn) append(names []string, begin uint32, ends []uint32) {
	for _, end := range ends {
		l.ends = append(l.ends, l.total+uint64(end-begin))
	}
	l.total += uint64(len(names))
	for _, name := range names {
		l.texts = append(binary.AppendUvarint(l.texts, uint64(len(name))), name...)
	}
}

func (l *listColumn) encode(to []byte) []byte {
	for _, end := range l.ends {
		to = binary.LittleEndian.AppendUint64(to, end)
	}
	return append(to, l.texts...)
}

// lowColumn is a LowCardinality(String) column: a dictionary and a key for each row.
type lowColumn struct {
	words []string
	known map[string]uint32
	keys  []uint32
}

func (l *lowColumn) rows() int { return len(l.keys) }

func (l *lowColumn) reset() {
	clear(l.words)
	clear(l.known)
	l.words, l.keys = l.words[:0], l.keys[:0]
}

func (l *lowColumn) append(names []string) {
	last, key := "", l.key("")
	for _, name := range names {
		if name != last { // mostly the same text at the same place
			last, key = name, l.key(name)
		}
		l.keys = append(l.keys, key)
	}
}

func (l *lowColumn) repeat(name string, n int) {
	l.key("")
	key := l.key(name)
	for range n {
		l.keys = append(l.keys, key)
	}
}

// key is the place of a text in the dictionary.
func (l *lowColumn) key(name string) uint32 {
	if len(l.words) == 0 {
		if l.known == nil {
			l.known = map[string]uint32{}
		}
		l.words, l.known[""] = append(l.words, ""), 0 // ClickHouse wants the default first
	}
	key, ok := l.known[name]
	if !ok {
		key = uint32(len(l.words)) // a row each at most
		l.words, l.known[name] = append(l.words, name), key
	}
	return key
}

// The first word of the column in ClickHouse's Native format: how wide the keys are,
// and that the dictionary comes along (SerializationLowCardinality.cpp).
const (
	keysOf1Byte    = 0
	keysOf2Bytes   = 1
	keysOf4Bytes   = 2
	withDictionary = 1<<9 | 1<<10
)

func (l *lowColumn) encode(to []byte) []byte {
	if len(l.keys) == 0 {
		return to
	}
	width := uint64(keysOf4Bytes)
	switch {
	case len(l.words) <= math.MaxUint8:
		width = keysOf1Byte
	case len(l.words) <= math.MaxUint16:
		width = keysOf2Bytes
	}
	to = binary.LittleEndian.AppendUint64(to, withDictionary|width)
	to = binary.LittleEndian.AppendUint64(to, uint64(len(l.words)))
	for _, word := range l.words {
		to = append(binary.AppendUvarint(to, uint64(len(word))), word...)
	}
	to = binary.LittleEndian.AppendUint64(to, uint64(len(l.keys)))
	for _, key := range l.keys {
		switch width {
		case keysOf1Byte:
			to = append(to, uint8(key))
		case keysOf2Bytes:
			to = binary.LittleEndian.AppendUint16(to, uint16(key))
		default:
			to = binary.LittleEndian.AppendUint32(to, key)
		}
	}
	return to
}
