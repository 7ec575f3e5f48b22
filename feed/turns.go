package feed

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// usualTurn is what a build is taken to last before one was measured: of a feed of
	// 200 followees, with eight at once on two cores that have other work too.
	usualTurn = 100 * time.Millisecond
	// turnMemory is over about how many builds the measured time is a mean.
	turnMemory = 16
	// soonest and latest are the bounds of when somebody is told to come again. Beyond
	// the latest nobody's feed is urgent, and the guess is not worth much.
	soonest, latest = time.Second, time.Minute
)

// turns lets so many builds run at once, those who came first before the others. When
// thousands of cold feeds are read at the same moment, whoever would wait for longer
// than they have is told at once when to come again, and is not built for: else all
// of them would wait, most in vain, and the builds for those who have left would hold
// up those who are there.
type turns struct {
	now func() time.Time
	// slots holds a token for each build under way; channels serve in order.
	slots chan struct{}

	mu      sync.Mutex
	waiting int
	lasts   time.Duration // a build, in the mean
}

func newTurns(atOnce int, now func() time.Time) *turns {
	return &turns{now: now, slots: make(chan struct{}, atOnce), lasts: usualTurn}
}

// take waits for a turn, for patience at most, and returns what ends it. Without a
// turn it returns nil and when it is worth asking again; or the error of ctx.
func (t *turns) take(ctx context.Context, patience time.Duration) (done func(), again time.Duration, err error) {
	wait := t.enter()
	defer t.leave()
	select {
	case t.slots <- struct{}{}: // with no patience, too
		return t.begin(), 0, nil
	default:
		if wait > patience {
			return nil, spread(wait), nil
		}
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case t.slots <- struct{}{}:
		return t.begin(), 0, nil
	case <-limit.C:
		return nil, spread(t.expected()), nil
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

func (t *turns) begin() (done func()) {
	begun := t.now()
	return func() {
		<-t.slots
		t.measured(t.now().Sub(begun))
	}
}

// enter counts one more who waits and returns for how long they will.
func (t *turns) enter() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting++
	return t.wait()
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting--
}

func (t *turns) expected() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wait()
}

// wait is for how long the last of those who wait will.
func (t *turns) wait() time.Duration {
	if t.waiting <= cap(t.slots)-len(t.slots) {
		return 0
	}
	return t.lasts * time.Duration(t.waiting) / time.Duration(cap(t.slots))
}

func (t *turns) measured(lasted time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lasts += (lasted - t.lasts) / turnMemory
}

// spread keeps those who come again from coming at the same moment.
func spread(wait time.Duration) time.Duration {
	wait = min(max(wait, soonest), latest)
	return wait + rand.N(wait/4+1)
}
