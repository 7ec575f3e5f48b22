package kafka

import "time"

// tracker follows the records of one partition from the poll to the commit. Only
// offsets that were received are in it, so gaps in the log (compaction,
// transaction markers) do no harm. The records behind an unfinished one may
// finish in any order; the mark stops before the first unfinished one.
type tracker struct {
	slots fifo[slot]
	// popped counts the slots that left at the front: the sequence number of the
	// first slot.
	popped uint64
	// mark is what may be committed.
	mark position
	// unfinished counts the slots that are not done.
	unfinished int
}

// slot is one record that was received and is not below the mark.
type slot struct {
	offset int64
	epoch  int32
	done   bool
	since  time.Time
}

// position is a place in a partition, as it is committed: the offset of the next
// record to handle, the leader epoch of the one before, and free text.
type position struct {
	offset int64
	epoch  int32
	meta   string
}

// same tells whether a commit of the one would be a commit of the other.
func (p position) same(q position) bool { return p.offset == q.offset && p.meta == q.meta }

// nowhere is the position of a partition that has none.
var nowhere = position{offset: -1, epoch: -1}

// add takes up the next record of the partition and returns its sequence number.
func (t *tracker) add(offset int64, epoch int32, now time.Time) uint64 {
	t.slots.push(slot{offset: offset, epoch: epoch, since: now})
	t.unfinished++
	return t.popped + uint64(t.slots.len()-1)
}

// finish marks n records as done, from sequence number seq on, and moves the mark
// over the finished head of the partition.
func (t *tracker) finish(seq uint64, n int) {
	for i := range n {
		s := t.slots.at(int(seq-t.popped) + i)
		if !s.done {
			s.done = true
			t.unfinished--
		}
	}
	for t.slots.len() > 0 && t.slots.at(0).done {
		s := t.slots.pop()
		t.popped++
		t.mark = position{offset: s.offset + 1, epoch: s.epoch}
	}
}

// span is how many records there are from the first unfinished one to the last
// one read: what a crash would replay.
func (t *tracker) span() int { return t.slots.len() }

// oldest returns since when the first unfinished record has been here.
func (t *tracker) oldest() (since time.Time, ok bool) {
	if t.slots.len() == 0 {
		return time.Time{}, false
	}
	return t.slots.at(0).since, true
}
