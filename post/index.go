package post

import (
	"sync"
	"time"
)

// index knows the keyed photos in the log of the last window.
type index struct {
	window time.Duration

	mu sync.Mutex
	// hours holds the keys by the hour of their post, so that forgetting an hour
	// is dropping one map, and gives the memory back.
	hours map[int64]map[keyHash]attempt
}

func newIndex(window time.Duration) *index {
	return &index{window: window, hours: make(map[int64]map[keyHash]attempt)}
}

// add takes a fact from the log. If the log has a key twice within the window, the
// first fact stays: facts of one user are in one partition, so every node sees the
// same one first.
func (x *index) add(key keyHash, a attempt, now time.Time) {
	at := a.post.Time()
	if now.Sub(at) >= x.window {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.find(key, at); known {
		return
	}
	hour := hourOf(at)
	if x.hours[hour] == nil {
		x.forget(now)
		x.hours[hour] = make(map[keyHash]attempt)
	}
	x.hours[hour][key] = a
}

// get returns the photo that a key stands for now.
func (x *index) get(key keyHash, now time.Time) (attempt, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.find(key, now)
}

func (x *index) find(key keyHash, now time.Time) (attempt, bool) {
	for _, keys := range x.hours {
		if a, ok := keys[key]; ok && now.Sub(a.post.Time()) < x.window {
			return a, true
		}
	}
	return attempt{}, false
}

func (x *index) forget(now time.Time) {
	oldest := hourOf(now.Add(-x.window))
	for hour := range x.hours {
		if hour < oldest {
			delete(x.hours, hour)
		}
	}
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// settleTime is how long after a failed publish its record may still land in the
// log: several times the time that a client and a broker give a request.
const settleTime = 2 * time.Minute

// attempts knows the publishes of this process whose outcome is unknown, for
// settleTime after the last try.
type attempts struct {
	mu    sync.Mutex
	byKey map[keyHash]unsettled
	// order has the keys by the time of their put, for forgetting.
	order []queued
}

type unsettled struct {
	attempt

	until time.Time
}

type queued struct {
	key   keyHash
	until time.Time
}

func newAttempts() *attempts { return &attempts{byKey: make(map[keyHash]unsettled)} }

func (t *attempts) put(key keyHash, a attempt, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	until := now.Add(settleTime)
	t.byKey[key] = unsettled{a, until}
	t.order = append(t.order, queued{key, until})
}

func (t *attempts) get(key keyHash, now time.Time) (attempt, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	u, ok := t.byKey[key]
	return u.attempt, ok
}

func (t *attempts) drop(key keyHash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byKey, key)
}

func (t *attempts) forget(now time.Time) {
	n := 0
	for ; n < len(t.order) && !now.Before(t.order[n].until); n++ {
		q := t.order[n]
		// A later try of the key has its own place in the order.
		if u, ok := t.byKey[q.key]; ok && !u.until.After(q.until) {
			delete(t.byKey, q.key)
		}
	}
	t.order = t.order[n:]
}
