package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// window is the state of a subscription: what was read, what is out, what is
// done. It does no I/O, starts nothing and knows no clock: the subscription calls
// it under one lock and passes the time in.
type window struct {
	maxInFlight, maxTracked, maxBytes int

	nackBackoff, maxNackBackoff time.Duration
	// hold is how long a partition that was reset waits for its messages in flight.
	hold  time.Duration
	batch *BatchConfig
	// flat knows the records that came in another form. Nil outside batch mode.
	flat *flattener
	// writes tells whether intents have to be committed: not without a group.
	writes bool
	// base is the parent of the partitions' contexts.
	base context.Context //nolint:containedctx // messages outlive every call

	parts map[int32]*partition
	// round is the turn of the partitions that have something ready.
	round    fifo[*partition]
	ready    int
	inFlight int
	timers   timers
	// wanted: a batch waits for its bounds to be committed.
	wanted bool
}

func newWindow(base context.Context, cfg SubscriberConfig) *window {
	return &window{
		maxInFlight:    cfg.MaxInFlight,
		maxTracked:     cfg.MaxTracked,
		maxBytes:       cfg.MaxTrackedBytes,
		nackBackoff:    cfg.NackBackoff,
		maxNackBackoff: cfg.MaxNackBackoff,
		hold:           cfg.Drain,
		batch:          cfg.Batch,
		writes:         cfg.Group != "",
		base:           base,
		parts:          make(map[int32]*partition),
	}
}

// assign begins an ownership of a partition.
func (w *window) assign(id int32) *partition {
	p := newPartition(w.base, id, w.batch, w.flat)
	w.parts[id] = p
	return p
}

// resume sets what the group has committed for a partition that was just
// assigned: its position, and the batch that has to be formed again.
func (w *window) resume(id int32, committed position) {
	p := w.parts[id]
	if p == nil || p.last >= 0 || committed.offset < 0 {
		return
	}
	p.committed = committed
	p.last = committed.offset - 1
	if p.batcher != nil {
		p.batcher.intent = parseIntent(committed.meta)
	}
}

// add takes up records that were polled; end is the offset after the newest record
// of the log. It returns the partition that ended if the log began anew below what
// was already read.
func (w *window) add(id int32, topicID [16]byte, records []*kgo.Record, end int64, now time.Time) (ended *partition) {
	p := w.parts[id]
	if p == nil || p.phase != active {
		return nil // polls and revocations exclude each other: not reached
	}
	if len(records) == 0 {
		return nil
	}
	sameTopic := p.named(topicID)
	if records[0].Offset <= p.last || !sameTopic {
		ended = p
		p = w.restart(p, records[0], now)
	}
	p.end = end
	p.checkIntent()
	for _, r := range records {
		p.enqueue(r, now)
	}
	w.formBatch(p, now)
	w.enlist(p)
	return ended
}

// restart ends the ownership of a partition that was reset and begins another.
// The group's offset has to be taken back at once, even below what it was: else
// the records between would be skipped by whoever comes next.
func (w *window) restart(old *partition, first *kgo.Record, now time.Time) *partition {
	w.stop(old)
	w.drop(old, ErrReset)
	p := w.assign(old.id)
	p.topicID, p.topicName, p.paused = old.topicID, old.topicName, old.paused
	p.committed = old.committed
	p.tracker.mark = position{offset: first.Offset, epoch: first.LeaderEpoch}
	if old.inFlight > 0 {
		// A key may still be in work: its records wait.
		p.held, old.successor = true, p
		w.timers.push(timer{at: now.Add(w.hold), held: p})
	}
	return p
}

// next returns the delivery to hand out now, nil if there is none or the window
// is full. It counts as in flight from here on.
func (w *window) next(now time.Time) *delivery {
	w.tick(now)
	for w.inFlight < w.maxInFlight && w.round.len() > 0 {
		p := w.round.pop()
		p.queued = false
		if p.phase != active || p.held || p.ready.len() == 0 {
			continue
		}
		d := p.ready.pop()
		w.enlist(p)
		d.attempts++
		w.inFlight++
		p.inFlight++
		return d
	}
	return nil
}

// unsend takes back a delivery that nobody received.
func (w *window) unsend(d *delivery) {
	w.settle(d)
	d.attempts--
	if d.part.phase == active {
		d.part.ready.pushFront(d)
		w.enlist(d.part)
	}
}

// ack finishes a delivery. It reports false if the acknowledgement came late.
func (w *window) ack(d *delivery, now time.Time) bool {
	w.settle(d)
	p := d.part
	if p.phase == gone {
		return false
	}
	p.finish(d)
	w.formBatch(p, now)
	w.enlist(p)
	return true
}

// nack puts a delivery off. It returns the pause, and false if it came late.
func (w *window) nack(d *delivery, now time.Time) (pause time.Duration, ok bool) {
	w.settle(d)
	if d.part.phase == gone {
		return 0, false
	}
	pause = backoff(d.attempts, w.nackBackoff, w.maxNackBackoff)
	w.timers.push(timer{at: now.Add(pause), retry: d})
	return pause, true
}

// settle takes a delivery out of flight.
func (w *window) settle(d *delivery) {
	p := d.part
	p.settled()
	if p.phase != gone {
		w.inFlight--
	} else if p.inFlight == 0 && p.successor != nil {
		w.release(p.successor)
	}
}

// stop ends the handing out of a partition; what is out may still settle.
func (w *window) stop(p *partition) {
	if p.phase != active {
		return
	}
	p.phase = revoking
	close(p.stop)
}

// drop ends the ownership: what settles from here on is late. It returns what is
// left to commit, if anything.
func (w *window) drop(p *partition, cause error) (last position, dirty bool) {
	if p.phase == gone {
		return nowhere, false
	}
	last = p.target()
	dirty = last.offset >= 0 && !last.same(p.committed)
	p.phase = gone
	w.inFlight -= p.inFlight
	w.ready -= p.counted
	if w.parts[p.id] == p {
		delete(w.parts, p.id)
	}
	p.cancel(cause)
	return last, dirty
}

// waitFor returns a channel that is closed when no message of the partitions is
// in flight.
func (w *window) waitFor(parts []*partition) <-chan struct{} {
	wait := &waiter{done: make(chan struct{})}
	for _, p := range parts {
		if p.inFlight > 0 {
			wait.left += p.inFlight
			p.waiters = append(p.waiters, wait)
		}
	}
	if wait.left == 0 {
		close(wait.done)
	}
	return wait.done
}

// room returns how many records may be polled now; 0 means: wait.
func (w *window) room() int {
	records, bytes := w.load()
	if bytes >= w.maxBytes || records >= w.maxTracked {
		return 0
	}
	room := w.maxTracked - records
	if room < w.maxTracked/4 && w.ready > 0 {
		return 0 // there is work to hand out: no poll for every single record
	}
	return room
}

// load is what counts against the limits: the unfinished records and their size.
// A paused partition does not count, so that it does not stop the others; nor does
// one that collects a batch of given bounds, which cannot go out before.
func (w *window) load() (records, bytes int) {
	for _, p := range w.parts {
		if !p.paused && !p.forming() {
			records += p.tracker.unfinished
			bytes += p.bytes
		}
	}
	return records, bytes
}

// jam returns the partitions that are not to be fetched for now, and marks them:
// those with an unfinished record that too many are behind, and, when the window
// is full of records that all wait for others, the one that holds most of it.
func (w *window) jam() []int32 {
	var ids []int32
	var largest *partition
	for id, p := range w.parts {
		switch {
		case p.paused || p.forming():
		case p.tracker.span() >= 2*w.maxTracked:
			w.pause(p)
			ids = append(ids, id)
		case largest == nil || p.tracker.unfinished > largest.tracker.unfinished:
			largest = p
		}
	}
	records, bytes := w.load()
	full := records >= w.maxTracked || bytes >= w.maxBytes
	if full && w.ready == 0 && w.inFlight < w.maxInFlight && largest != nil && len(w.parts) > 1 {
		w.pause(largest)
		ids = append(ids, largest.id)
	}
	return ids
}

func (w *window) pause(p *partition) {
	p.paused, p.pausedAt = true, p.tracker.unfinished
}

// clear tells whether a paused partition may be fetched again, and marks it. It
// has to be half as full as it was: each pause costs a fetch.
func (w *window) clear(p *partition) bool {
	if !p.paused || p.phase != active || p.tracker.unfinished > p.pausedAt/2 || p.tracker.span() > w.maxTracked {
		return false
	}
	p.paused = false
	return true
}

// dirty returns what the group should have and has not.
func (w *window) dirty() map[*partition]position {
	var targets map[*partition]position
	for _, p := range w.parts {
		if t := p.target(); t.offset >= 0 && !t.same(p.committed) {
			if targets == nil {
				targets = make(map[*partition]position)
			}
			targets[p] = t
		}
	}
	return targets
}

// wrote notes a commit that succeeded; a batch whose bounds it holds may go out.
func (w *window) wrote(p *partition, at position) {
	p.committed = at
	if p.phase != active || p.batcher == nil {
		return
	}
	if d := p.batcher.current; d != nil && d.unwritten && d.intent().same(at) {
		w.written(d)
	}
}

func (w *window) written(d *delivery) {
	d.unwritten = false
	d.part.ready.push(d)
	w.enlist(d.part)
}

// formBatch makes the partition's next batch if it is time, or notes when to look
// again.
func (w *window) formBatch(p *partition, now time.Time) {
	b := p.batcher
	if b == nil || p.phase != active {
		return
	}
	if !w.pressed() {
		w.form(p, now, false)
		return
	}
	// All that is here goes out at once: handing out one partition's alone would make
	// the others wait for it.
	for _, q := range w.parts {
		if q.phase == active {
			w.form(q, now, true)
		}
	}
}

// form is formBatch for one partition; pressed says that more cannot come.
func (w *window) form(p *partition, now time.Time, pressed bool) {
	b := p.batcher
	d := b.form(p, now, pressed, w.idle())
	switch {
	case d == nil:
		if at, ok := b.due(); ok && b.timer.IsZero() {
			b.timer = at
			w.timers.push(timer{at: at, batch: p})
		}
	case d.unwritten && w.writes && !d.intent().same(p.committed):
		w.wanted = true
	default:
		w.written(d)
	}
}

// pressed tells that nothing more can be read before a batch goes out.
func (w *window) pressed() bool {
	records, bytes := w.load()
	return (records >= w.maxTracked || bytes >= w.maxBytes) && w.idle()
}

// idle tells that no batch is out.
func (w *window) idle() bool {
	for _, p := range w.parts {
		if p.batcher.current != nil {
			return false
		}
	}
	return true
}

// enlist gives a partition its turn if it has something ready.
func (w *window) enlist(p *partition) {
	w.ready += p.ready.len() - p.counted
	p.counted = p.ready.len()
	if !p.queued && !p.held && p.phase == active && p.ready.len() > 0 {
		p.queued = true
		w.round.push(p)
	}
}

func (w *window) release(p *partition) {
	p.held = false
	w.enlist(p)
}
