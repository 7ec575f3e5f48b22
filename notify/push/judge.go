package push

import (
	"context"
	"sync"
	"time"
)

const (
	// crowd is how many devices in a row must fail alike, with no success between,
	// before their common scope is held to be at fault.
	crowd = 3
	// recheck is when an undecided device is tried again: its neighbours have been
	// heard by then, on a server with traffic.
	recheck = 30 * time.Second
	// firstPause doubles with each pause that no success ends, up to maxPause.
	firstPause = time.Minute
	maxPause   = 15 * time.Minute

	// memory is how long a failure is remembered. What is older than that says
	// nothing about the configuration of today.
	memory = time.Hour
	// maxFirsts bounds the devices remembered in a scope, maxScopes the scopes:
	// origins of Web Push are chosen by whoever registers.
	maxFirsts = 10_000
	maxScopes = 10_000
)

// Judge decides what a single answer cannot: whether a device is at fault or what
// it shares with its neighbours, their push service and our credentials for it.
//
//	the device fails, a neighbour succeeds, the device fails again   guilty: Outcome.Guilty
//	three devices in a row fail, nobody succeeds between             Pause of the scope
//	neither                                                          Retry in 30 s
//
// So a device is never condemned by successes that came before its first failure:
// credentials that break in mid traffic condemn nobody. In the same way a rate
// limit of a device becomes one of its origin when it meets three in a row.
//
// A Judge remembers in this process alone, at most an hour: a restart forgets, and
// the next attempts tell again.
type Judge struct {
	next Sender
	now  func() time.Time

	mu     sync.Mutex
	scopes map[string]*record
}

// record is what is known of one scope.
type record struct {
	lastOK, lastSeen time.Time
	// first is when a device became a suspect.
	first map[string]time.Time
	// failing are the devices that failed since lastOK, limited those that were
	// limited.
	failing, limited map[string]bool
	pause            time.Duration
	pausedUntil      time.Time
}

// NewJudge returns a Judge over the outcomes of next; nil now means time.Now.
func NewJudge(next Sender, now func() time.Time) *Judge {
	if now == nil {
		now = time.Now
	}
	return &Judge{next: next, now: now, scopes: map[string]*record{}}
}

// Check implements Sender.
func (j *Judge) Check(to Target) error { return j.next.Check(to) }

// Send implements Sender; it never returns Suspect.
func (j *Judge) Send(ctx context.Context, to Target, m Message) Outcome {
	out := j.next.Send(ctx, to, m)
	switch {
	case out.Action == OK:
		j.succeeded(to)
	case out.Action == Suspect:
		return j.judge(to, out)
	case out.Action == Retry && out.Reason == RateLimited && out.Scope == ScopeDevice:
		return j.widen(to, out)
	}
	return out
}

// succeeded clears the scopes that a success proves to be right.
func (j *Judge) succeeded(to Target) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range []Scope{ScopeOrigin, ScopeProvider} {
		// A scope without failures needs no record.
		if r := j.scopes[to.ScopeKey(s)]; r != nil {
			r.lastOK, r.lastSeen, r.pause = now, now, 0
			clear(r.failing)
			clear(r.limited)
			delete(r.first, to.ScopeKey(ScopeDevice))
		}
	}
}

func (j *Judge) judge(to Target, out Outcome) Outcome {
	now, device := j.now(), to.ScopeKey(ScopeDevice)
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(to.ScopeKey(out.Scope), now)
	first, seen := r.first[device]
	if seen && r.lastOK.After(first) && now.Sub(first) < memory {
		delete(r.first, device)
		delete(r.failing, device)
		out.Action, out.Scope, out.RetryAfter = out.Guilty, ScopeDevice, 0
		out.Strike = out.Action == Drop
		return out
	}
	if !seen || now.Sub(first) >= memory {
		if len(r.first) >= maxFirsts {
			clear(r.first)
		}
		r.first[device] = now
	}
	r.failing[device] = true
	if len(r.failing) < crowd {
		out.Action, out.Scope, out.RetryAfter = Retry, ScopeDevice, max(out.RetryAfter, recheck)
		return out
	}
	if !now.Before(r.pausedUntil) {
		r.pause = min(max(2*r.pause, firstPause), maxPause)
		r.pausedUntil = now.Add(r.pause)
	}
	out.Action, out.RetryAfter = Pause, max(out.RetryAfter, r.pausedUntil.Sub(now))
	return out
}

// widen makes a device's rate limit one of its origin when it is not alone.
func (j *Judge) widen(to Target, out Outcome) Outcome {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(to.ScopeKey(ScopeOrigin), now)
	r.limited[to.ScopeKey(ScopeDevice)] = true
	if len(r.limited) >= crowd {
		out.Scope = ScopeOrigin
	}
	return out
}

// record returns what is known of a scope, and forgets old scopes when there are
// too many.
func (j *Judge) record(key string, now time.Time) *record {
	r := j.scopes[key]
	if r == nil {
		if len(j.scopes) >= maxScopes {
			j.forget(now)
		}
		r = &record{first: map[string]time.Time{}, failing: map[string]bool{}, limited: map[string]bool{}}
		j.scopes[key] = r
	}
	if now.Sub(r.lastSeen) >= memory {
		clear(r.first)
		clear(r.failing)
		clear(r.limited)
		r.pause = 0
	}
	if len(r.failing) >= maxFirsts {
		// The scope is long known to be at fault.
		clear(r.failing)
	}
	if len(r.limited) >= maxFirsts {
		clear(r.limited)
	}
	r.lastSeen = now
	return r
}

func (j *Judge) forget(now time.Time) {
	for key, r := range j.scopes {
		if now.Sub(r.lastSeen) >= memory {
			delete(j.scopes, key)
		}
	}
	if len(j.scopes) >= maxScopes {
		clear(j.scopes)
	}
}
