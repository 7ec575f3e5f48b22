package kafka

import (
	"container/heap"
	"time"
)

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

// timers is a heap, the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = timer{}
	*t = (*t)[:last]
	return x
}

func (w *window) later(t timer) { heap.Push(&w.timers, t) }

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
		switch t := heap.Pop(&w.timers).(timer); {
		case t.retry != nil:
			if p := t.retry.part; p.phase == active {
				p.ready.push(t.retry)
				w.enlist(p)
			}
		case t.batch != nil:
			t.batch.batcher.timer = time.Time{}
			w.formBatch(t.batch, now)
		case t.held != nil:
			if t.held.held {
				w.release(t.held)
			}
		}
	}
}
