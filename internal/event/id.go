package event

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"
)

// ID is a snowflake: 41 bits of milliseconds since 2015-01-01, 10 bits of node,
// 12 bits of sequence. Ids sort by time. All ids from mid-2022 to 2084 have
// exactly 19 decimal digits, so their strings sort as they do, and Redis keeps
// them as 8-byte integers inside its lists.
type ID int64

const (
	epochMillis  = 1_420_070_400_000 // 2015-01-01T00:00:00Z
	nodeBits     = 10
	sequenceBits = 12
	maxNode      = 1<<nodeBits - 1
	maxSequence  = 1<<sequenceBits - 1
	minID        = 1_000_000_000_000_000_000
)

// ParseID reads an id of 19 decimal digits.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < minID || len(s) != 19 {
		return 0, fmt.Errorf("event: %q is not an id of 19 digits", s)
	}
	return ID(n), nil
}

// FirstID returns the smallest id of a moment, for ranges by time.
func FirstID(t time.Time) ID {
	return ID((t.UnixMilli() - epochMillis) << (nodeBits + sequenceBits))
}

// String returns the 19 digits.
func (id ID) String() string { return strconv.FormatInt(int64(id), 10) }

// Time returns when the id was made, to the millisecond.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(id)>>(nodeBits+sequenceBits) + epochMillis).UTC()
}

// IDs makes ids, unique as long as no two processes share a node number. The
// zero value is not usable; see [NewIDs]. Safe for concurrent use.
type IDs struct {
	node int64
	now  func() time.Time

	mu       sync.Mutex
	millis   int64
	sequence int64
}

// NewIDs returns a source of ids for one node, 0 to 1023.
func NewIDs(node int, now func() time.Time) (*IDs, error) {
	if node < 0 || node > maxNode {
		return nil, fmt.Errorf("event: node %d is not in 0..%d", node, maxNode)
	}
	return &IDs{node: int64(node), now: now}, nil
}

// Next returns an id larger than every id before it. When the clock steps back,
// or more than 4,096 ids are asked for in a millisecond, it counts on from the
// last id instead of waiting: order matters more than the last digit of the time.
func (g *IDs) Next() ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now().UnixMilli() - epochMillis
	switch {
	case now > g.millis:
		g.millis, g.sequence = now, 0
	case g.sequence < maxSequence:
		g.sequence++
	default:
		g.millis, g.sequence = g.millis+1, 0
	}
	return ID(g.millis<<(nodeBits+sequenceBits) | g.node<<sequenceBits | g.sequence)
}

// Tagged returns an id of the same millisecond whose other digits follow from the
// name: one of what follows from an event, for somebody. Two of them are the same
// with a chance of one in four million.
func (id ID) Tagged(name string) ID {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return FirstID(id.Time()) | ID(h.Sum32()>>(32-nodeBits-sequenceBits))
}
