package feed

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redispipe"
)

// frontWeight is about what a front takes besides its bytes and ids.
const frontWeight = 400

// frontCache keeps the first pages of home feeds, as they were read last, for who
// reads them again: most look more often than there is something new. Redis tells
// when a key changes of which a page was made (tracker.go), and the page goes; and
// every reader asks Redis something before a kept page counts, so that it is as exact
// as one that is read.
type frontCache struct {
	// limit is how many bytes it holds; none if not positive.
	limit int

	mu    sync.Mutex
	size  int
	users *simplelru.LRU[string, *front]
}

// front is a first page, or the note that somebody is reading one: a page is kept
// only where the note of its reading still is, so that no news fell in between. It
// never changes, but for learnt.
type front struct {
	// want is how many photos were asked for.
	want int
	at   time.Time
	// learnt is up to where it is known that none of its posts was deleted.
	learnt atomic.Uint64

	page *shownPage // nil for a note
}

// shownPage is what a reader gets of a page.
type shownPage struct {
	photos []byte // field photos of the response, encoded
	ids    []event.ID
	next   string
	more   bool
}

func (f *front) weight() int {
	if f.page == nil {
		return frontWeight
	}
	return frontWeight + len(f.page.photos) + len(f.page.ids)*8
}

func newFrontCache(limit int) *frontCache {
	c := &frontCache{limit: limit}
	c.users = newLRU(func(_ string, f *front) { c.size -= f.weight() })
	return c
}

// of returns what is kept for a user who wants so many photos, if need be a new note
// of this moment.
func (c *frontCache) of(user string, want int, learnt uint64, now time.Time) *front {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.users.Get(user); ok && f.want == want {
		return f
	}
	f := &front{want: want, at: now}
	f.learnt.Store(learnt)
	c.replace(user, f)
	return f
}

// keep puts a page in the place of its note, if that is there yet.
func (c *frontCache) keep(user string, note *front, page *shownPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current, ok := c.users.Peek(user); !ok || current != note {
		return
	}
	f := &front{want: note.want, at: note.at, page: page}
	f.learnt.Store(note.learnt.Load())
	c.replace(user, f)
}

func (c *frontCache) replace(user string, f *front) {
	c.users.Remove(user)
	c.users.Add(user, f)
	c.size += f.weight()
	for c.size > c.limit {
		c.users.RemoveOldest()
	}
}

// has says whether f is what is kept for the user.
func (c *frontCache) has(user string, f *front) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	current, ok := c.users.Peek(user)
	return ok && current == f
}

// changed takes out what was made of a key.
func (c *frontCache) changed(key string) {
	kind, tag, _ := strings.Cut(key, ":")
	if kind != "feed" && kind != "edition" && kind != "pulled" {
		return
	}
	c.drop(strings.TrimSuffix(strings.TrimPrefix(tag, "{"), "}"))
}

func (c *frontCache) drop(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users.Remove(user)
}

func (c *frontCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users.Purge()
	c.size = 0
}

// reading is a first page that is being read and may be kept.
type reading struct {
	note *front
	// tracked says that Redis tells of changes of all that the page was made of.
	tracked bool
}

// madeOf says which window the page is made of, that below a cursor if its beginning was
// not enough. Redis tells of changes of a list as a whole.
func (r *reading) madeOf(w window, cursor event.ID) {
	if r != nil {
		r.tracked = len(w.pulled) == 0 && (w.tracked || r.tracked && cursor != noCursor)
	}
}

// untracked says that the page is made of the authors' lists too.
func (r *reading) untracked() {
	if r != nil {
		r.tracked = false
	}
}

// recall returns the first page of a home feed out of memory, if it is still what
// Redis would give; else what to give to [redisStore.home] and keepFront, nil where
// nothing is kept.
func (s *redisStore) recall(ctx context.Context, user string, want int) (*shownPage, *reading) {
	if s.fronts.limit <= 0 || !s.tracker.tells() {
		return nil, nil
	}
	learnt, known := s.bodies.told()
	if !known {
		return nil, nil
	}
	f := s.fronts.of(user, want, learnt, s.now())
	if f.page == nil {
		return nil, s.readAnew(f)
	}
	// After an answer on the tracked connection, all that changed before is known.
	if err := s.tracked.wait(ctx); err != nil {
		return nil, nil // whatever it is, the usual way tells
	}
	if s.tracker.tells() && s.fronts.has(user, f) {
		gone, now := s.bodies.anyGone(f.page.ids, f.learnt.Load())
		if !gone && s.lookedAt(f.at) {
			f.learnt.Store(now)
			s.metrics.fronts.WithLabelValues("memory").Inc()
			return f.page, nil
		}
		s.fronts.drop(user)
	}
	if f = s.fronts.of(user, want, learnt, s.now()); f.page != nil {
		return nil, nil // another reader was faster
	}
	return nil, s.readAnew(f)
}

func (s *redisStore) readAnew(note *front) *reading {
	s.metrics.fronts.WithLabelValues("redis").Inc()
	return &reading{note: note}
}

// keepFront keeps a page, of which no post was missing, for the next reader.
func (s *redisStore) keepFront(user string, r *reading, page *shownPage) {
	if r != nil && r.tracked {
		s.fronts.keep(user, r.note, page)
	}
}

// askTracked is [redisStore.ask] on the connection that tells of changes.
func (s *redisStore) askTracked(ctx context.Context, cmds ...redis.Cmder) error {
	return s.tracked.do(ctx, cmds...)
}

// execTracked runs commands on the tracked connection. Its error is that nobody knows
// what changed; callers look at their own commands.
func (s *redisStore) execTracked(ctx context.Context, cmds []redis.Cmder) error {
	news := s.bodies.ask(ctx)
	_ = s.tracker.pipe.Exec(ctx, append([]redis.Cmder{news}, cmds...)...)
	err := redispipe.FirstError([]redis.Cmder{news})
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		// No answer at all, to nobody: what is known stays true.
		s.tracker.rest()
		return err
	}
	s.bodies.learn(news)
	return err
}
