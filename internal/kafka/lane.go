package kafka

import (
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// delivery is what one message carries: a record, or in batch mode a run of them.
// It outlives its messages: a nacked delivery goes out again in a new message.
type delivery struct {
	part *partition
	// lane is the queue of the record's key. Nil without a key and in batch mode.
	lane *lane
	// next is the delivery behind this one in the lane.
	next *delivery
	// record is what it carries outside batch mode.
	record *kgo.Record
	// frames are what it carries in batch mode: a payload of internal/record.
	frames chunks
	// payload is the one of the message that is out in batch mode.
	payload []byte
	// n is how many records it carries.
	n int
	// seq is the first record's number in the partition's tracker.
	seq uint64
	// epoch and at are the leader epoch and the timestamp of the first record.
	epoch int32
	at    time.Time
	// bytes is the size of the records.
	bytes int
	// first and last are the offsets that the delivery stands for. For a batch that
	// was formed again they are the original bounds.
	first, last int64
	// attempts counts how often it went out.
	attempts int
	// unwritten is set on a batch whose bounds are not committed yet.
	unwritten bool
}

// lane holds the deliveries of one key of one partition, in the order of the log.
// Only its head may be out.
type lane struct {
	key        string
	head, tail *delivery
}

func (l *lane) push(d *delivery) {
	if l.head == nil {
		l.head = d
	} else {
		l.tail.next = d
	}
	l.tail = d
}

// pop removes the head and returns the one behind it, nil if there is none.
func (l *lane) pop() *delivery {
	l.head, l.head.next = l.head.next, nil
	return l.head
}

// backoff is the pause after the n-th failed attempt: doubling from first to
// limit, half of it at random, so that lanes which failed together do not come
// back together.
func backoff(attempt int, first, limit time.Duration) time.Duration {
	d := limit
	if shift := attempt - 1; shift < 30 && first<<shift < limit {
		d = first << shift
	}
	return d/2 + rand.N(d/2+1)
}

// sizeOf is what a record counts against the byte limits: what it carries.
func sizeOf(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
