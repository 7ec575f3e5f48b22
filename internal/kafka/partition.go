package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The causes with which the context of a message ends before it is settled.
var (
	// ErrRevoked: the partition went to another member of the group.
	ErrRevoked = errors.New("kafka: partition revoked")
	// ErrReset: the partition's log began anew below what was already read.
	ErrReset = errors.New("kafka: partition reset")
	// ErrClosing: the subscription ends and the time to drain is over.
	ErrClosing = errors.New("kafka: subscription closing")
)

// phase is where a partition is in its time with this member.
type phase int

const (
	// active: records are handed out.
	active phase = iota
	// revoking: nothing new is handed out, what is out may still settle.
	revoking
	// gone: whatever settles now is late and changes nothing.
	gone
)

// partition is one partition during one ownership. Being assigned again makes a
// new partition, so the pointer is the epoch that fences late acknowledgements.
type partition struct {
	id    int32
	phase phase
	// ctx is the parent of the messages' contexts.
	ctx    context.Context //nolint:containedctx // messages outlive every call
	cancel context.CancelCauseFunc
	// stop is closed when nothing may be handed out any more.
	stop chan struct{}

	topicID   [16]byte
	topicName string // topicID in hex

	tracker tracker
	// last is the offset of the last record read; before the first one, of the
	// record before the committed offset. -1 if unknown.
	last int64
	// committed is what the group has, as far as we know.
	committed position
	// end is the offset after the newest record of the log, as of the last fetch.
	end int64

	lanes map[string]*lane
	ready fifo[*delivery]
	// counted is how many of the ready ones the window knows of.
	counted int
	// batcher is set in batch mode.
	batcher *batcher
	// queued: the partition is in the window's round.
	queued bool
	// held: messages of the partition's time before a reset are still out.
	held bool

	inFlight int
	bytes    int
	// paused: the client was told to fetch nothing of it.
	paused bool
	// pausedAt is how many unfinished records it had then.
	pausedAt int

	// successor is the partition that waits for this one's messages (see held).
	successor *partition
	// waiters are told when messages in flight settle.
	waiters []*waiter
}

// waiter counts the messages that somebody waits for.
type waiter struct {
	left int
	done chan struct{}
}

func newPartition(base context.Context, id int32, batch *BatchConfig, flat *flattener) *partition {
	p := &partition{
		id:        id,
		stop:      make(chan struct{}),
		last:      -1,
		committed: nowhere,
		lanes:     make(map[string]*lane),
		tracker:   tracker{mark: nowhere},
	}
	p.ctx, p.cancel = context.WithCancelCause(base)
	if batch != nil {
		p.batcher = &batcher{limits: *batch, flat: flat}
	}
	return p
}

// enqueue puts a record into the lane of its key, or up for a batch. In batch mode
// nothing of the record is kept.
func (p *partition) enqueue(r *kgo.Record, now time.Time) {
	seq := p.tracker.add(r.Offset, r.LeaderEpoch, now)
	p.last = r.Offset
	if p.batcher != nil {
		p.bytes += p.batcher.add(r, seq, now)
		return
	}
	size := sizeOf(r)
	p.bytes += size
	d := &delivery{part: p, record: r, n: 1, seq: seq, bytes: size, epoch: r.LeaderEpoch, at: r.Timestamp, first: r.Offset, last: r.Offset}
	if r.Key == nil {
		p.ready.push(d)
		return
	}
	l := p.lanes[string(r.Key)]
	if l == nil {
		l = &lane{key: string(r.Key)}
		p.lanes[l.key] = l
		p.ready.push(d)
	}
	d.lane = l
	l.push(d)
}

// finish takes an acknowledged delivery off and readies what stood behind it.
func (p *partition) finish(d *delivery) {
	p.tracker.finish(d.seq, d.n)
	p.bytes -= d.bytes
	switch {
	case p.batcher != nil:
		p.batcher.current = nil
		d.frames.free()
		d.giveBack()
	case d.lane != nil:
		if next := d.lane.pop(); next != nil {
			p.ready.push(next)
		} else {
			delete(p.lanes, d.lane.key)
		}
	}
}

// target is what the group should have. A batch that is about to go out, or is
// out, is committed by its bounds, so that whoever comes next forms it again.
func (p *partition) target() position {
	if b := p.batcher; b != nil && b.current != nil {
		return b.current.intent()
	}
	return p.tracker.mark
}

// forming tells whether a batch of given bounds is being collected: it has to be
// completed, whatever the limits say.
func (p *partition) forming() bool {
	return p.batcher != nil && p.batcher.intent != nil
}

// settled tells the waiters that a message is no longer in flight.
func (p *partition) settled() {
	p.inFlight--
	for _, w := range p.waiters {
		w.left--
		if w.left == 0 {
			close(w.done)
		}
	}
	if p.inFlight == 0 {
		p.waiters = nil
	}
}

// named notes the topic's id; it reports false if the topic is another one than
// before.
func (p *partition) named(id [16]byte) bool {
	if id == p.topicID || id == [16]byte{} {
		return true
	}
	known := p.topicID != [16]byte{}
	p.topicID, p.topicName = id, hex.EncodeToString(id[:])
	return !known
}
