package kafka

import (
	"sync"
	"time"

	"activityfeed/internal/record"
)

const (
	// chunkSize is how much is asked for at once. One slice that grows would be copied
	// each time, and be new memory each time: that took as long as reading the log.
	chunkSize = 256 << 10
	// frameRoom is what the frame of a record takes beside what the record carries: the
	// lengths of its parts. One with many headers may take more, and is copied.
	frameRoom = 128
)

// chunkPool keeps the memory of batches that are done.
var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// chunks is a sequence of bytes in pieces.
type chunks struct {
	pieces [][]byte
	size   int
}

// add appends the frame of a record that carries so many bytes, and returns its length.
func (c *chunks) add(r record.Record, bytes int) int {
	last := c.room(bytes + frameRoom)
	before := len(*last)
	*last = record.AppendBatch(*last, r)
	n := len(*last) - before
	c.size += n
	return n
}

// addBody is add for a record whose frame is encoded but for its place.
func (c *chunks) addBody(offset int64, at time.Time, body []byte) int {
	last := c.room(len(body) + frameRoom)
	before := len(*last)
	*last = record.AppendBody(*last, offset, at, body)
	n := len(*last) - before
	c.size += n
	return n
}

// room returns a piece with room for n bytes.
func (c *chunks) room(n int) *[]byte {
	last := len(c.pieces) - 1
	if last < 0 || cap(c.pieces[last])-len(c.pieces[last]) < n {
		c.pieces = append(c.pieces, newPiece(n))
		last++
	}
	return &c.pieces[last]
}

// newPiece returns an empty piece with room for n bytes at least.
func newPiece(n int) []byte {
	if n > chunkSize {
		return make([]byte, 0, n)
	}
	return chunkPool.Get().(*[chunkSize]byte)[:0] //nolint:forcetypeassert // nothing else is in it
}

// cut takes the first n bytes off, which end with a record.
func (c *chunks) cut(n int) chunks {
	head := chunks{size: n}
	for n > 0 {
		piece := c.pieces[0]
		if n < len(piece) {
			// What is behind it was read last, and is little.
			rest := append(newPiece(len(piece)-n), piece[n:]...)
			piece, c.pieces[0] = piece[:n], rest
		} else {
			c.pieces = c.pieces[1:]
		}
		head.pieces = append(head.pieces, piece)
		n -= len(piece)
	}
	c.size -= head.size
	return head
}

// appendTo appends all of it.
func (c *chunks) appendTo(all []byte) []byte {
	for _, piece := range c.pieces {
		all = append(all, piece...)
	}
	return all
}

// free gives the memory back. Nothing of it is used any more.
func (c *chunks) free() {
	for _, piece := range c.pieces {
		if cap(piece) == chunkSize {
			chunkPool.Put((*[chunkSize]byte)(piece[:chunkSize]))
		}
	}
	*c = chunks{}
}
