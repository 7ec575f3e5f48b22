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
// is kept back until all is there: the driver would box each string and look it up by
// reflection, which took as long as all other columns together.
type columns struct {
	batch driver.Batch
	all   []column.Interface
	low   []*lowColumn // nil where the column is of another type
}

func newColumns(batch driver.Batch) *columns {
	all := batch.Columns()
	c := &columns{batch: batch, all: all, low: make([]*lowColumn, len(all))}
	for i, one := range all {
		if one.Type() == "LowCardinality(String)" {
			c.low[i] = &lowColumn{}
		}
	}
	return c
}

// append appends a slice of values to column i.
func (c *columns) append(i int, values any) error {
	if names, ok := values.([]string); ok && c.low[i] != nil {
		c.low[i].append(names)
		return nil
	}
	return c.batch.Column(i).Append(values)
}

// close gives the driver what was kept back.
func (c *columns) close() error {
	var text []byte
	for _, low := range c.low {
		if low != nil {
			text = low.encode(text)
		}
	}
	reader := proto.NewReader(bytes.NewReader(text))
	for i, low := range c.low {
		if low == nil {
			continue
		}
		// As if it had come from a server: the driver sends such a column as it is.
		if err := c.all[i].Decode(reader, len(low.keys)); err != nil {
			return fmt.Errorf("column %s: %w", c.all[i].Name(), err)
		}
	}
	return nil
}

// lowColumn is a LowCardinality(String) column: a dictionary and a key for each row.
type lowColumn struct {
	words []string
	known map[string]uint32
	keys  []uint32
}

func (l *lowColumn) append(names []string) {
	if l.known == nil {
		l.known = map[string]uint32{"": 0} // ClickHouse wants the default first
		l.words = []string{""}
	}
	last, key := "", uint32(0)
	for _, name := range names {
		if name != last { // mostly the same text at the same place
			var ok bool
			if key, ok = l.known[name]; !ok {
				key = uint32(len(l.words)) // a row each at most
				l.words, l.known[name] = append(l.words, name), key
			}
			last = name
		}
		l.keys = append(l.keys, key)
	}
}

// The first word of the column in ClickHouse's Native format: how wide the keys are,
// and that the dictionary comes along (SerializationLowCardinality.cpp).
const (
	keysOf1Byte    = 0
	keysOf2Bytes   = 1
	keysOf4Bytes   = 2
	withDictionary = 1<<9 | 1<<10
)

// encode appends the column in ClickHouse's Native format.
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
