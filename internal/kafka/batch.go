package kafka

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/record"
)

// A batch goes out under a promise: whoever handles these records after a crash
// gets them with the same bounds, so that a sink can recognise by the bounds what
// it already has. Therefore before a batch of the offsets a to b goes out for the
// first time, offset a is committed with the metadata "v1:a-b": the intent. When
// the batch is finished, b+1 is committed with no metadata, or with the next
// intent. Whoever is assigned the partition and finds an intent forms exactly a
// to b first, whatever the limits say.

// intentVersion begins every intent. Metadata that begin otherwise (clients write
// their own) are none.
const intentVersion = "v1:"

// span is a run of offsets, both ends included.
type span struct{ first, last int64 }

func (s span) String() string {
	return fmt.Sprintf("%s%d-%d", intentVersion, s.first, s.last)
}

// parseIntent returns the intent in a commit's metadata, nil if there is none.
func parseIntent(meta string) *span {
	rest, ok := strings.CutPrefix(meta, intentVersion)
	if !ok {
		return nil
	}
	a, b, ok := strings.Cut(rest, "-")
	if !ok {
		return nil
	}
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	if err1 != nil || err2 != nil || first < 0 || last < first {
		return nil
	}
	return &span{first, last}
}

// intent is the position to commit before the batch goes out.
func (d *delivery) intent() position {
	return position{offset: d.first, epoch: d.epoch, meta: span{d.first, d.last}.String()}
}

// idlePart is which part of a full batch goes out when nothing else is out: whoever
// handles them need not wait for the log, as at the start of a catch-up.
const idlePart = 4

// batcher forms the batches of one partition, one at a time.
type batcher struct {
	limits BatchConfig
	queue  fifo[pending]
	// frames are the queued records, as a batch has them. They are copied out of what
	// the client read: records by the hundred thousand, each with its headers and their
	// names, made the garbage collector a fifth of the cost of a batch.
	frames chunks
	bytes  int
	// flat tells records apart that came in another form; nil where none do.
	flat *flattener
	// seq is the number in the tracker of the first record of the queue; the others
	// follow it.
	seq uint64
	// begin is where the clock of the queue starts.
	begin time.Time
	// headers are the room for those of one record at a time.
	headers []record.Header
	// current is the batch that is formed and not finished.
	current *delivery
	// intent is the batch that has to come first.
	intent *span
	// timer is when the window looks at the forming batch; zero if not at all.
	timer time.Time
}

// pending is a record that is in no batch yet. There are very many, so it is small.
type pending struct {
	offset int64
	// at is the record's timestamp in milliseconds, since when it came.
	at    int64
	since time.Duration
	epoch int32
	bytes int32
	// framed is its length in frames.
	framed int32
}

// add takes a record up and returns its size.
func (b *batcher) add(r *kgo.Record, seq uint64, now time.Time) (bytes int) {
	var framed int
	if size, ok := b.flat.is(r); ok {
		bytes, framed = size, b.frames.addBody(r.Offset, r.Timestamp, r.Value)
	} else {
		bytes = sizeOf(r)
		one := consumedInto(b.headers[:0], r)
		b.headers = one.Headers
		framed = b.frames.add(one, bytes)
	}
	if b.queue.len() == 0 {
		b.seq, b.begin = seq, now
	}
	b.queue.push(pending{
		offset: r.Offset, epoch: r.LeaderEpoch, bytes: int32(bytes), framed: int32(framed), at: r.Timestamp.UnixMilli(), since: now.Sub(b.begin),
	})
	b.bytes += bytes
	return bytes
}

// due returns when the forming batch has waited long enough. There is no such
// time while a batch is out or a given one is being collected.
func (b *batcher) due() (at time.Time, ok bool) {
	if b.current != nil || b.intent != nil || b.queue.len() == 0 {
		return time.Time{}, false
	}
	since, wait := b.begin.Add(b.queue.at(0).since), b.limits.MaxWait
	if b.limits.InStep {
		wait -= since.Sub(since.Truncate(wait))
	}
	return since.Add(wait), true
}

// form makes the next batch if it is time, and returns it. With pressed it does
// not wait for more records; with idle a part of a full batch is enough.
func (b *batcher) form(p *partition, now time.Time, pressed, idle bool) *delivery {
	if b.current != nil || b.queue.len() == 0 {
		return nil
	}
	if b.intent != nil {
		if d := b.reform(p); d != nil || b.intent != nil {
			return d
		}
	}
	at, _ := b.due()
	enough := 1
	if idle {
		enough = idlePart
	}
	full := enough*b.queue.len() >= b.limits.MaxRecords || enough*b.bytes >= b.limits.MaxBytes
	if !full && !pressed && now.Before(at) {
		return nil
	}
	d := b.take(p, func(d *delivery, next pending) bool {
		return d.n < b.limits.MaxRecords && (d.n == 0 || d.bytes+int(next.bytes) <= b.limits.MaxBytes)
	})
	d.unwritten = true
	return d
}

// reform forms the batch of the intent once its last record is here, or one
// beyond it, which tells that the last one no longer exists.
func (b *batcher) reform(p *partition) *delivery {
	if p.last < b.intent.last {
		return nil
	}
	s := *b.intent
	b.intent = nil
	d := b.take(p, func(_ *delivery, next pending) bool { return next.offset <= s.last })
	if d == nil {
		return nil // retention was faster: nothing is left of it
	}
	d.first, d.last = s.first, s.last
	return d
}

// checkIntent drops the intent of a batch whose end the log no longer has: a crash
// of the broker cut it off, and other records will get its offsets.
func (p *partition) checkIntent() {
	if p.forming() && p.end <= p.batcher.intent.last {
		p.batcher.intent = nil
	}
}

// take moves records from the queue into a new current batch while fits allows.
func (b *batcher) take(p *partition, fits func(d *delivery, next pending) bool) *delivery {
	head := b.queue.at(0)
	d := &delivery{part: p, seq: b.seq, epoch: head.epoch, at: time.UnixMilli(head.at), first: head.offset}
	length := 0
	for b.queue.len() > 0 && fits(d, *b.queue.at(0)) {
		next := b.queue.pop()
		d.n++
		d.last = next.offset
		d.bytes += int(next.bytes)
		length += int(next.framed)
		b.bytes -= int(next.bytes)
	}
	b.seq += uint64(d.n)
	if d.n == 0 {
		return nil
	}
	d.frames = b.frames.cut(length)
	b.current = d
	return d
}

// batchMessage makes the message of a batch. Its UUID names the batch and is the
// same for each delivery; the payload is the message's own.
func (d *delivery) batchMessage(topic string) *message.Message {
	d.payload = d.frames.appendTo(newPayload(d.frames.size))
	return message.NewMessage(fmt.Sprintf("%s/%d/%d-%d", topic, d.part.id, d.first, d.last), d.payload)
}

// payloadPool keeps the memory of payloads that were acknowledged.
var payloadPool sync.Pool

// newPayload returns an empty slice with room for n bytes.
func newPayload(n int) []byte {
	if b, ok := payloadPool.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n+n/4) // the next one may be a little larger
}

// giveBack takes the payload of an acknowledged message back. Of one that was not, a
// handler may still have it in hand.
func (d *delivery) giveBack() {
	if b := d.payload; b != nil {
		d.payload = nil
		payloadPool.Put(&b)
	}
}
