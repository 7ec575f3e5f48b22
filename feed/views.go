package feed

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// viewCache remembers, for users who read lately, whose posts belong into their
// home feeds. What it knows of a user has the name of their feed's edition, which
// changes with every follow, unfollow, block and mute of theirs, and which each read
// of the feed brings along. Answers of another edition are forgotten.
type viewCache struct {
	// limit is how many answers it holds; none if not positive.
	limit int

	mu    sync.Mutex
	size  int
	users *simplelru.LRU[string, *edition]
}

// edition is what is known of a user while nothing changes. It is only added to
// while it is the one in the cache, so an answer in it is never older than its
// name.
type edition struct {
	name string
	// pulled are the marks of the list.
	pulled []string
	// at is when the list's expiry was looked at last.
	at   time.Time
	home map[string]bool
}

func newViewCache(limit int) *viewCache {
	c := &viewCache{limit: limit}
	const many = 1 << 30
	c.users, _ = simplelru.NewLRU(many, func(_ string, e *edition) { c.size -= 1 + len(e.home) }) // fails for sizes below 1 only
	return c
}

// know returns the edition of a user's feed that was read last, if the list was
// not being built then.
func (c *viewCache) know(user string) (edition, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.users.Get(user)
	if !ok || strings.HasPrefix(e.name, markerPrefix) {
		return edition{}, false
	}
	return edition{name: e.name, pulled: e.pulled, at: e.at}, true
}

// confirm says that this was read of the user's feed; without an edition Redis does
// not tell.
func (c *viewCache) confirm(user string, w window, at time.Time) {
	if c.limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.users.Get(user); ok {
		if e.name == w.edition {
			e.at = at
			return
		}
		c.users.Remove(user)
	}
	if w.edition == "" {
		return
	}
	c.users.Add(user, &edition{name: w.edition, pulled: w.pulled, at: at, home: map[string]bool{}})
	c.size++
	c.shrink()
}

// look takes those of the posts out that are known not to stand in the user's feed,
// in place. If it does not know all, it leaves them and returns the authors to ask
// for, and the edition to add them to.
func (c *viewCache) look(user string, posts []post) (shown []post, unknown []string, e *edition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.users.Get(user)
	if !ok {
		return posts, authorsOf(posts, user), nil
	}
	for _, p := range posts {
		if _, ok := e.home[p.author]; !ok && p.author != user && !slices.Contains(unknown, p.author) {
			unknown = append(unknown, p.author)
		}
	}
	if len(unknown) > 0 {
		return posts, unknown, e
	}
	return keep(posts, func(p post) bool { return p.author == user || e.home[p.author] }), nil, e
}

// add keeps answers that were asked for after look returned e.
func (c *viewCache) add(user string, e *edition, answers map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current, ok := c.users.Peek(user); !ok || current != e {
		return
	}
	for author, home := range answers {
		if _, ok := e.home[author]; !ok {
			e.home[author] = home
			c.size++
		}
	}
	c.shrink()
}

func (c *viewCache) shrink() {
	for c.size > c.limit {
		c.users.RemoveOldest()
	}
}

// inHome returns, in place, those of the posts that stand in the home feed of a
// user, as it was when the feed was read last or is now.
func (s *redisStore) inHome(ctx context.Context, user string, posts []post) ([]post, error) {
	shown, unknown, e := s.views.look(user, posts)
	if len(unknown) == 0 {
		return shown, nil
	}
	// Those that are known are asked for again: what was known may be gone by now.
	v, err := s.viewOf(ctx, user, authorsOf(posts, user))
	if err != nil {
		return nil, err
	}
	answers := make(map[string]bool, len(unknown))
	for _, author := range unknown {
		answers[author] = v.home(user, author)
	}
	s.views.add(user, e, answers)
	return keep(posts, func(p post) bool { return v.home(user, p.author) }), nil
}
