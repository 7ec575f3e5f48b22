package feed

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"activityfeed/internal/event"
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
	// shown are the posts that all stood in the feed when they were looked at last:
	// who reads a page again is spared twenty looks at authors.
	shown []event.ID
	// reach is how many entries beyond those asked for did lately; see known.ahead.
	reach atomic.Int32
}

// editionWeight is what an edition takes besides its answers, in answers.
const editionWeight = 4

func newViewCache(limit int) *viewCache {
	c := &viewCache{limit: limit}
	c.users = newLRU(func(_ string, e *edition) { c.size -= editionWeight + len(e.home) })
	return c
}

// know returns the edition of a user's feed that was read last, none if the list was
// being built then.
func (c *viewCache) know(user string) known {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.users.Get(user)
	if !ok || strings.HasPrefix(e.name, markerPrefix) {
		return known{}
	}
	return known{edition: e, name: e.name, pulled: e.pulled, at: e.at}
}

// known is what is known of a user's feed, as it was when it was asked for.
type known struct {
	*edition

	name   string
	pulled []string
	at     time.Time
}

// ahead returns how many entries to read beyond those asked for, usual if nothing
// is known of that.
func (k known) ahead(usual int) int {
	if k.edition != nil {
		if n := int(k.reach.Load()); n > 0 {
			return min(n, usual)
		}
	}
	return usual
}

// enough notes how many would have done, 0 if all that were read were needed.
func (k known) enough(n int) {
	if k.edition != nil {
		k.reach.Store(int32(n))
	}
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
	c.size += editionWeight
	c.shrink()
}

// look takes those of the posts out that are known not to stand in the user's feed,
// in place. If it does not know all, it leaves them and returns the authors to ask
// for, and the edition to add them to.
func (c *viewCache) look(user string, posts []*post) (shown []*post, unknown []string, e *edition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.users.Get(user)
	if !ok {
		return posts, authorsOf(posts, user), nil
	}
	if slices.EqualFunc(posts, e.shown, func(p *post, id event.ID) bool { return p.id == id }) {
		return posts, nil, e
	}
	for _, p := range posts {
		if _, ok := e.home[p.author]; !ok && p.author != user && !slices.Contains(unknown, p.author) {
			unknown = append(unknown, p.author)
		}
	}
	if len(unknown) > 0 {
		return posts, unknown, e
	}
	all := len(posts)
	if posts = keep(posts, func(p *post) bool { return p.author == user || e.home[p.author] }); len(posts) == all {
		e.remember(posts)
	}
	return posts, nil, e
}

// remember notes posts that are all shown, up to a page.
func (e *edition) remember(posts []*post) {
	if len(posts) > usualPage+1 {
		return
	}
	e.shown = e.shown[:0]
	for _, p := range posts {
		e.shown = append(e.shown, p.id)
	}
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
func (s *redisStore) inHome(ctx context.Context, user string, posts []*post) ([]*post, error) {
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
	return keep(posts, func(p *post) bool { return v.home(user, p.author) }), nil
}
