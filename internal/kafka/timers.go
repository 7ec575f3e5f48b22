package kafka

import "time"

// timer is something the window does later; one of its fields is set.
type timer struct {
	at time.Time
	// retry: the pause of a nacked delivery is over.
	retry *delivery
	// batch: a batch has waited long enough for more records.
	batch *partition
	// held: a partition has waited long enough for the messages before its reset.
	held *partition
}

// timers is a binary heap, the earliest first.
type timers []timer

func (ts *timers) push(t timer) {
	h := append(*ts, t)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].at.Before(h[up].at) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	*ts = h
}

func (ts *timers) pop() timer {
	h := *ts
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], timer{} // what was popped is not kept alive
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < len(h) && h[down].at.Before(h[least].at) {
				least = down
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*ts = h
	return first
}

// due returns when the window has to be looked at again, if ever.
func (w *window) due() (at time.Time, ok bool) {
	if len(w.timers) == 0 {
		return time.Time{}, false
	}
	return w.timers[0].at, true
}

// tick does what is due.
func (w *window) tick(now time.Time) {
	for len(w.timers) > 0 && !w.timers[0].at.After(now) {
		switch t := w.timers.pop(); {
		case t.retry != nil:
			if p := t.retry.part; p.phase == active {
				p.ready.push(t.retry)
				w.enlist(p)
			}
		case t.batch != nil:
			t.batch.batcher.timer = time.Time{}
			w.formBatch(t.batch, now)
		case t.held.held:
			w.release(t.held)
		}
	}
}
