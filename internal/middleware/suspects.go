package middleware

import (
	"sync"
	"time"
)

const (
	// healthyShare of the neighbours must succeed before a message is suspected;
	// uForwarder's HeadBlockingDetector uses the same 98 %.
	healthyShare = 0.98
	// suspectExpiry forgets messages that are not delivered here any more: their
	// partition went to another process. Longer than any lane backoff.
	suspectExpiry = 10 * time.Minute
)

// suspects tells a message that keeps failing from a service that fails. Both
// look alike from inside one message; the difference is what its neighbours do.
//
// Neighbours are the messages handled since the suspect failed for the first
// time: earlier successes prove nothing about a service that has just broken. And
// a failure is a strike against the message only if some neighbour succeeded
// since its failure before: nothing that happens during an outage counts.
type suspects struct {
	mu        sync.Mutex
	successes int64
	failing   map[string]*suspect
	swept     time.Time
}

// suspect is a message whose last delivery failed.
type suspect struct {
	first, last time.Time
	// baseline and seen are the count of successes at the first and the last failure.
	baseline, seen int64
	strikes        int
}

func newSuspects() *suspects {
	return &suspects{failing: map[string]*suspect{}, swept: time.Now()}
}

// succeeded counts n successes and clears the message. It asks for the id only if
// there is anything to clear.
func (s *suspects) succeeded(id func() string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.successes += n
	if len(s.failing) > 0 {
		delete(s.failing, id())
	}
}

// forget clears the message without counting it.
func (s *suspects) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failing, id)
}

// failed notes a failure. It returns the strikes against the message and whether
// its neighbours succeed. An outage is noted, but is no strike.
func (s *suspects) failed(id string, outage bool) (strikes int, healthy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.sweep(now)
	e := s.failing[id]
	switch {
	case e == nil:
		e = &suspect{first: now, baseline: s.successes}
		s.failing[id] = e
		if !outage {
			e.strikes = 1
		}
	case !outage && s.successes > e.seen:
		e.strikes++
	}
	e.last, e.seen = now, s.successes

	good := float64(s.successes - e.baseline)
	bad := float64(len(s.failing) - 1)
	return e.strikes, good > 0 && good >= healthyShare*(good+bad)
}

// firstFailure returns when the message failed for the first time: now, if never.
func (s *suspects) firstFailure(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.failing[id]; e != nil {
		return e.first
	}
	return time.Now()
}

func (s *suspects) sweep(now time.Time) {
	if now.Sub(s.swept) < suspectExpiry/10 {
		return
	}
	s.swept = now
	for id, e := range s.failing {
		if now.Sub(e.last) > suspectExpiry {
			delete(s.failing, id)
		}
	}
}
