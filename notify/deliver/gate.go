package deliver

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"activityfeed/notify/push"
)

const (
	// threshold is how many failures in a row open a breaker.
	threshold = 5
	// firstOpen is for how long; it doubles up to lastOpen.
	firstOpen = time.Second
	lastOpen  = time.Minute
	// crowded is how long a worker waits for a place at its origin before it gives
	// the job back: an origin that answers has one by then.
	crowded = 250 * time.Millisecond
	// maxScopes bounds what is remembered: who registers chooses the origins.
	maxScopes = 10_000
)

// gate says whether something may be sent to a target now. It keeps, for each
// provider and each origin, a pause, a breaker and a number of places.
type gate struct {
	now func() time.Time
	// places is how many pushes one origin of Web Push may have under way.
	places int

	mu     sync.Mutex
	scopes map[string]*scope
}

type scope struct {
	// places holds a token for each push under way; nil: as many as there are workers.
	places chan struct{}
	under  int
	// failures in a row; from threshold on the breaker is open until openUntil, and
	// then lets one probe through.
	failures    int
	openFor     time.Duration
	openUntil   time.Time
	probing     bool
	pausedUntil time.Time
}

func newGate(places int, now func() time.Time) *gate {
	return &gate{now: now, places: max(places, 1), scopes: make(map[string]*scope)}
}

// enter returns 0 if a push may be sent; the caller calls leave after it.
// Otherwise it returns how long to wait.
func (g *gate) enter(ctx context.Context, to push.Target) time.Duration {
	g.mu.Lock()
	places := g.both(to)[1].places
	wait := g.shut(to)
	g.mu.Unlock()
	if wait > 0 {
		return wait
	}
	if places != nil && !take(ctx, places) {
		return spread(crowded)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.shut(to); wait > 0 {
		if places != nil {
			<-places
		}
		return wait
	}
	for _, s := range g.both(to) {
		s.under++
		s.probing = s.failures >= threshold
	}
	return 0
}

func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	limit := time.NewTimer(crowded)
	defer limit.Stop()
	select {
	case places <- struct{}{}:
		return true
	case <-limit.C:
	case <-ctx.Done():
	}
	return false
}

// shut returns how long nothing may be sent to a target.
func (g *gate) shut(to push.Target) time.Duration {
	now := g.now()
	for _, s := range g.both(to) {
		switch {
		case now.Before(s.pausedUntil):
			return spread(s.pausedUntil.Sub(now))
		case now.Before(s.openUntil):
			return spread(s.openUntil.Sub(now))
		case s.failures >= threshold && s.probing:
			return spread(time.Second)
		}
	}
	return 0
}

// leave notes what came of a push that was let in, and whether a pause began with it.
func (g *gate) leave(to push.Target, o push.Outcome) (paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	both := g.both(to)
	for _, s := range both {
		s.under--
		s.probing = false
		select {
		case <-s.places: // nil where there are none, and empty if the scope was forgotten
		default:
		}
	}
	failed := both[0]
	if o.Scope != push.ScopeProvider {
		failed = both[1]
	}
	switch {
	case o.Reason == push.Canceled:
	case o.Action == push.Pause, o.Action == push.Retry && o.Reason == push.RateLimited && o.Scope != push.ScopeDevice:
		paused = !now.Before(failed.pausedUntil)
		failed.pausedUntil = later(failed.pausedUntil, now.Add(max(o.RetryAfter, time.Second)))
	case o.Action == push.Retry && o.Scope != push.ScopeDevice:
		failed.failures++
		if failed.failures >= threshold && !now.Before(failed.openUntil) {
			failed.openFor = min(max(2*failed.openFor, firstOpen), lastOpen)
			failed.openUntil = now.Add(failed.openFor)
		}
	case o.Done():
		for _, s := range both {
			s.failures, s.openFor = 0, 0
		}
	}
	return paused && o.Action == push.Pause
}

// closed returns how many scopes are paused or open.
func (g *gate) closed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, now := 0, g.now()
	for _, s := range g.scopes {
		if now.Before(s.pausedUntil) || now.Before(s.openUntil) {
			n++
		}
	}
	return n
}

// both returns the scopes of a target: the provider, the origin.
func (g *gate) both(to push.Target) [2]*scope {
	return [2]*scope{g.of(to.ScopeKey(push.ScopeProvider), false), g.of("origin "+to.ScopeKey(push.ScopeOrigin), to.Origin() != "")}
}

func (g *gate) of(key string, bounded bool) *scope {
	s := g.scopes[key]
	if s == nil {
		if len(g.scopes) >= maxScopes {
			for other, idle := range g.scopes {
				if idle.under == 0 {
					delete(g.scopes, other)
				}
			}
		}
		s = &scope{}
		if bounded {
			s.places = make(chan struct{}, g.places)
		}
		g.scopes[key] = s
	}
	return s
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// spread adds up to half to a wait, so that what waits does not come all at once.
func spread(d time.Duration) time.Duration { return d + rand.N(d/2+time.Millisecond) }
