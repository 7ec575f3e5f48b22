package kafka

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// windowMachine drives a window at random and holds it against a plain model: per
// ownership the records that were added, and which of them are done.
type windowMachine struct {
	w     *window
	now   time.Time
	out   []*delivery // handed out and not settled, also of partitions that are gone
	parts []*model    // every ownership there was
	logs  map[int32][]*kgo.Record
	group map[int32]position // what is committed
}

// model is one ownership.
type model struct {
	p       *partition
	cursor  int // of the partition's log
	records []*kgo.Record
	done    map[int64]bool
	// intent is the batch that has to come first.
	intent *span
	// reset: the log began anew, so the first commit may go back.
	reset bool
}

func newWindowMachine(t *rapid.T, batch *BatchConfig) *windowMachine {
	cfg := SubscriberConfig{
		Group:       "g",
		MaxInFlight: rapid.IntRange(1, 6).Draw(t, "max in flight"),
		MaxTracked:  rapid.IntRange(4, 40).Draw(t, "max tracked"),
		Batch:       batch,
	}.withDefaults()
	return &windowMachine{
		w:     newWindow(context.Background(), cfg),
		now:   time.Unix(0, 0),
		logs:  make(map[int32][]*kgo.Record),
		group: make(map[int32]position),
	}
}

func (m *windowMachine) live(want phase) []*model {
	var found []*model
	for _, mp := range m.parts {
		if mp.p.phase == want && m.w.parts[mp.p.id] == mp.p {
			found = append(found, mp)
		}
	}
	return found
}

func (m *windowMachine) pick(t *rapid.T, ps ...phase) *model {
	var found []*model
	for _, p := range ps {
		found = append(found, m.live(p)...)
	}
	if len(found) == 0 {
		t.Skip("no such partition")
	}
	return rapid.SampledFrom(found).Draw(t, "partition")
}

func (m *windowMachine) modelOf(p *partition) *model {
	for _, mp := range m.parts {
		if mp.p == p {
			return mp
		}
	}
	panic("unknown partition")
}

func (m *windowMachine) assign(t *rapid.T) {
	id := rapid.Int32Range(0, 3).Draw(t, "id")
	if m.w.parts[id] != nil {
		t.Skip("assigned")
	}
	mp := &model{p: m.w.assign(id), done: make(map[int64]bool)}
	if at, ok := m.group[id]; ok {
		m.w.resume(id, at)
		mp.intent = parseIntent(at.meta)
		for mp.cursor < len(m.logs[id]) && m.logs[id][mp.cursor].Offset < at.offset {
			mp.cursor++
		}
	}
	m.parts = append(m.parts, mp)
}

// add reads on in the log, which grows as needed.
func (m *windowMachine) add(t *rapid.T) {
	mp := m.pick(t, active)
	room := m.w.room()
	if room == 0 || mp.p.paused {
		t.Skip("full")
	}
	id := mp.p.id
	n := rapid.IntRange(1, min(room, 8)).Draw(t, "n")
	for len(m.logs[id]) < mp.cursor+n {
		m.grow(t, id)
	}
	records := m.logs[id][mp.cursor : mp.cursor+n]
	if ended := m.w.add(id, [16]byte{}, records, m.end(id), m.now); ended != nil {
		t.Fatalf("add ended a partition that was not reset")
	}
	mp.records = append(mp.records, records...)
	mp.cursor += n
}

func (m *windowMachine) end(id int32) int64 {
	log := m.logs[id]
	return log[len(log)-1].Offset + 1
}

func (m *windowMachine) grow(t *rapid.T, id int32) {
	offset := rapid.Int64Range(0, 2).Draw(t, "gap")
	if n := len(m.logs[id]); n > 0 {
		offset += m.logs[id][n-1].Offset + 1
	}
	var key []byte
	if k := rapid.IntRange(-1, 3).Draw(t, "key"); k >= 0 {
		key = fmt.Append(make([]byte, 0), k)
	}
	m.logs[id] = append(m.logs[id], &kgo.Record{Offset: offset, Key: key, Value: []byte("xy")})
}

// reset makes the log of a partition begin anew, below what was read.
func (m *windowMachine) reset(t *rapid.T) {
	mp := m.pick(t, active)
	if mp.p.last < 0 {
		t.Skip("nothing read")
	}
	r := &kgo.Record{Offset: rapid.Int64Range(0, mp.p.last).Draw(t, "from"), Value: []byte("again")}
	id := mp.p.id
	m.logs[id] = []*kgo.Record{r}
	if ended := m.w.add(id, [16]byte{}, m.logs[id], m.end(id), m.now); ended != mp.p {
		t.Fatalf("add of offset %d after %d ended %v, want the partition", r.Offset, mp.p.last, ended)
	}
	m.parts = append(m.parts, &model{p: m.w.parts[id], cursor: 1, records: m.logs[id], done: make(map[int64]bool), reset: true})
}

// jam pauses what holds the others up.
func (m *windowMachine) jam(t *rapid.T) {
	for _, id := range m.w.jam() {
		if !m.w.parts[id].paused || m.w.parts[id].tracker.unfinished == 0 {
			t.Fatalf("jam() gave %d, which nothing would ever resume", id)
		}
	}
}

func (m *windowMachine) handOut(t *rapid.T) {
	d := m.w.next(m.now)
	if d == nil {
		t.Skip("nothing ready")
	}
	mp := m.modelOf(d.part)
	if d.part.phase != active {
		t.Fatalf("next() gave %d of a partition in phase %d", d.first, d.part.phase)
	}
	if mp.p.batcher != nil {
		if got, want := m.group[mp.p.id], d.intent(); !got.same(want) {
			t.Fatalf("batch %d-%d goes out while the group has %v", d.first, d.last, got)
		}
		if want := mp.intent; want != nil && (d.first != want.first || d.last != want.last) {
			t.Fatalf("batch %d-%d comes first, want %v", d.first, d.last, want)
		}
		mp.intent = nil
	} else {
		m.checkOrder(t, mp, d)
	}
	m.out = append(m.out, d)
}

// checkOrder: a record goes out alone of its key, after all earlier ones of its
// key are done.
func (m *windowMachine) checkOrder(t *rapid.T, mp *model, d *delivery) {
	key := d.record.Key
	if mp.done[d.first] {
		t.Fatalf("%d goes out again after its acknowledgement", d.first)
	}
	if slices.Contains(m.out, d) {
		t.Fatalf("%d is out twice", d.first)
	}
	if key == nil {
		return
	}
	for _, r := range mp.records {
		if r.Offset < d.first && r.Key != nil && string(r.Key) == string(key) && !mp.done[r.Offset] {
			t.Fatalf("%d goes out before %d of the same key %q", d.first, r.Offset, key)
		}
	}
}

func (m *windowMachine) takeOut(t *rapid.T) *delivery {
	if len(m.out) == 0 {
		t.Skip("nothing out")
	}
	i := rapid.IntRange(0, len(m.out)-1).Draw(t, "delivery")
	d := m.out[i]
	m.out = slices.Delete(m.out, i, i+1)
	return d
}

func (m *windowMachine) ack(t *rapid.T) { m.settle(t, m.takeOut(t)) }

func (m *windowMachine) settle(t *rapid.T, d *delivery) {
	late := d.part.phase == gone
	if got := m.w.ack(d, m.now); got == late {
		t.Fatalf("ack(%d) = %t in phase %d", d.first, got, d.part.phase)
	}
	if late {
		return
	}
	mp := m.modelOf(d.part)
	for _, r := range mp.records {
		if d.first <= r.Offset && r.Offset <= d.last {
			mp.done[r.Offset] = true
		}
	}
	m.w.clear(d.part)
}

func (m *windowMachine) nack(t *rapid.T) {
	d := m.takeOut(t)
	if _, got := m.w.nack(d, m.now); got == (d.part.phase == gone) {
		t.Fatalf("nack(%d) = %t in phase %d", d.first, got, d.part.phase)
	}
}

func (m *windowMachine) unsend(t *rapid.T) { m.w.unsend(m.takeOut(t)) }

func (m *windowMachine) pass(t *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute}).Draw(t, "time"))
	m.w.tick(m.now)
}

func (m *windowMachine) stop(t *rapid.T) { m.w.stop(m.pick(t, active).p) }

func (m *windowMachine) drop(t *rapid.T) {
	mp := m.pick(t, active, revoking)
	m.w.stop(mp.p)
	if last, dirty := m.w.drop(mp.p, ErrRevoked); dirty {
		m.write(t, mp, last)
	}
}

func (m *windowMachine) commit(t *rapid.T) {
	for p, at := range m.w.dirty() {
		m.write(t, m.modelOf(p), at)
		m.w.wrote(p, at)
	}
	m.w.wanted = false
}

// write: what is committed is never past the first unfinished record and never
// back.
func (m *windowMachine) write(t *rapid.T, mp *model, at position) {
	for _, r := range mp.records {
		if !mp.done[r.Offset] {
			if at.offset > r.Offset {
				t.Fatalf("committing %d past the unfinished %d", at.offset, r.Offset)
			}
			break
		}
	}
	if before, ok := m.group[mp.p.id]; ok && at.offset < before.offset && !mp.reset {
		t.Fatalf("committing %d after %d", at.offset, before.offset)
	}
	mp.reset = false
	m.group[mp.p.id] = at
}

// check holds the window's sums against the model.
func (m *windowMachine) check(t *rapid.T) {
	inFlight, ready := 0, 0
	for _, d := range m.out {
		if d.part.phase != gone {
			inFlight++
		}
	}
	for _, p := range m.w.parts {
		mp := m.modelOf(p)
		unfinished, size := 0, 0
		for _, r := range mp.records {
			if !mp.done[r.Offset] {
				unfinished++
				size += sizeOf(r)
			}
		}
		if p.tracker.unfinished != unfinished || p.bytes != size {
			t.Fatalf("partition %d: %d unfinished in %d bytes, want %d in %d", p.id, p.tracker.unfinished, p.bytes, unfinished, size)
		}
		ready += p.ready.len()
	}
	if m.w.inFlight != inFlight || inFlight > m.w.maxInFlight {
		t.Fatalf("in flight %d, want %d of at most %d", m.w.inFlight, inFlight, m.w.maxInFlight)
	}
	if m.w.ready != ready {
		t.Fatalf("ready %d, want %d", m.w.ready, ready)
	}
}

// finish acknowledges all there is: whatever happened before, everything must
// come out and be committed.
func (m *windowMachine) finish(t *rapid.T) {
	for _, mp := range m.live(active) {
		if mp.intent != nil { // its last record has to be read
			rest := m.logs[mp.p.id][mp.cursor:]
			m.w.add(mp.p.id, [16]byte{}, rest, m.end(mp.p.id), m.now)
			mp.records = append(mp.records, rest...)
		}
	}
	for _, d := range m.out {
		m.settle(t, d)
	}
	m.out = nil
	for idle := 0; idle < 3; {
		m.commit(t)
		d := m.w.next(m.now)
		if d == nil {
			idle++
			m.now = m.now.Add(time.Hour)
			continue
		}
		idle = 0
		m.settle(t, d)
	}
	for _, mp := range m.live(active) {
		for _, r := range mp.records {
			if !mp.done[r.Offset] {
				t.Fatalf("%d/%d never came out", mp.p.id, r.Offset)
			}
		}
		if n := len(mp.records); n > 0 && m.group[mp.p.id].offset != mp.records[n-1].Offset+1 {
			t.Fatalf("partition %d: committed %v, want %d", mp.p.id, m.group[mp.p.id], mp.records[n-1].Offset+1)
		}
		if mp.p.paused {
			t.Fatalf("partition %d is paused for ever", mp.p.id)
		}
	}
}

func (m *windowMachine) run(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"assign":   m.assign,
		"add":      m.add,
		"reset":    m.reset,
		"jam":      m.jam,
		"hand out": m.handOut,
		"ack":      m.ack,
		"nack":     m.nack,
		"unsend":   m.unsend,
		"pass":     m.pass,
		"stop":     m.stop,
		"drop":     m.drop,
		"commit":   m.commit,
		"":         m.check,
	})
	m.finish(t)
}

func TestWindowKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { newWindowMachine(t, nil).run(t) })
}

func TestBatchWindowKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		batch := &BatchConfig{
			MaxRecords: rapid.IntRange(1, 6).Draw(t, "max records"),
			MaxBytes:   rapid.IntRange(1, 20).Draw(t, "max bytes"),
			MaxWait:    time.Second,
		}
		newWindowMachine(t, batch).run(t)
	})
}

// The messages from before a reset are waited for: a key is never worked on twice
// at a time, not even then; but not for ever.
func TestResetWaitsForMessagesInFlight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(w *window, d *delivery) time.Time
	}{
		{"until they settle", func(w *window, d *delivery) time.Time { w.ack(d, time.Unix(0, 0)); return time.Unix(0, 0) }},
		{"or the time to drain is over", func(w *window, _ *delivery) time.Time { return time.Unix(0, 0).Add(w.hold) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(0, 0)
			w := newWindow(t.Context(), SubscriberConfig{Group: "g"}.withDefaults())
			w.assign(0)
			w.add(0, [16]byte{}, []*kgo.Record{{Offset: 7, Key: []byte("a")}}, 8, now)
			old := w.next(now)
			if ended := w.add(0, [16]byte{}, []*kgo.Record{{Offset: 0, Key: []byte("a")}}, 1, now); ended != old.part {
				t.Fatal("the log began anew, and the partition did not end")
			}
			if d := w.next(now); d != nil {
				t.Fatalf("record %d goes out while one from before the reset is out", d.first)
			}
			if d := w.next(tt.end(w, old)); d == nil || d.first != 0 {
				t.Fatalf("next() = %v, want the record at 0", d)
			}
		})
	}
}

// Batches in step close at the same moment, whenever their first record came.
func TestBatchesInStep(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1_700_000_000, 0)
	for _, tt := range []struct {
		name   string
		inStep bool
		after  time.Duration // the begin of a second
		want   time.Duration
	}{
		{"at a tick", true, 0, time.Second},
		{"before the tick", true, 999 * time.Millisecond, time.Second},
		{"after the tick", true, 1001 * time.Millisecond, 2 * time.Second},
		{"each for itself", false, 300 * time.Millisecond, 1300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := SubscriberConfig{Batch: &BatchConfig{InStep: tt.inStep}}.withDefaults()
			w := newWindow(t.Context(), cfg)
			w.assign(0)
			w.assign(1)
			w.add(1, [16]byte{}, []*kgo.Record{{Partition: 1, Offset: 0}}, 1, begin.Add(time.Minute)) // is not waited for
			came := begin.Add(tt.after)
			w.add(0, [16]byte{}, []*kgo.Record{{Offset: 0}}, 1, came)
			if d := w.next(begin.Add(tt.want - 1)); d != nil {
				t.Errorf("a batch goes out before %v", tt.want)
			}
			if d := w.next(begin.Add(tt.want)); d == nil || d.part.id != 0 {
				t.Errorf("next() after %v = %v, want the batch", tt.want, d)
			}
		})
	}
}

// A crash of the broker may cut off what a batch had: its bounds are void, since
// other records get the offsets.
func TestIntentBeyondTheEndOfTheLogIsVoid(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	cfg := SubscriberConfig{Group: "g", Batch: &BatchConfig{MaxRecords: 2}}.withDefaults()
	w := newWindow(t.Context(), cfg)
	w.assign(0)
	w.resume(0, position{offset: 3, meta: span{3, 9}.String()})
	w.add(0, [16]byte{}, []*kgo.Record{{Offset: 3}, {Offset: 4}}, 5, now)
	for p, at := range w.dirty() {
		w.wrote(p, at)
	}
	if d := w.next(now); d == nil || d.first != 3 || d.last != 4 {
		t.Fatalf("next() = %+v, want the batch 3-4", d)
	}
}
