package feed

import (
	"context"
	"sync"

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
	home map[string]bool
}

func newViewCache(limit int) *viewCache {
	c := &viewCache{limit: limit}
	const many = 1 << 30
	c.users, _ = simplelru.NewLRU(many, func(_ string, e *edition) { c.size -= 1 + len(e.home) }) // fails for sizes below 1 only
	return c
}

// confirm says that a read of the user's feed brought this edition; "" means that
// Redis does not tell.
func (c *viewCache) confirm(user, name string) {
	if c.limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.users.Get(user); ok {
		if e.name == name {
			return
		}
		c.users.Remove(user)
	}
	if name == "" {
		return
	}
	c.users.Add(user, &edition{name: name, home: map[string]bool{}})
	c.size++
	for c.size > c.limit {
		c.users.RemoveOldest()
	}
}

// look returns what is known of the authors, those of whom it is not, and the
// edition to add these to.
func (c *viewCache) look(user string, authors []string) (known map[string]bool, unknown []string, e *edition) {
	known = make(map[string]bool, len(authors))
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.users.Get(user)
	if !ok {
		return known, authors, nil
	}
	for _, author := range authors {
		if home, ok := e.home[author]; ok {
			known[author] = home
		} else {
			unknown = append(unknown, author)
		}
	}
	return known, unknown, e
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
	for c.size > c.limit {
		c.users.RemoveOldest()
	}
}

// inHome says of authors other than the user whether their posts belong into the
// home feed, as it was when the feed was read last or is now.
func (s *redisStore) inHome(ctx context.Context, user string, authors []string) (map[string]bool, error) {
	known, unknown, e := s.views.look(user, authors)
	if len(unknown) == 0 {
		return known, nil
	}
	v, err := s.viewOf(ctx, user, unknown)
	if err != nil {
		return nil, err
	}
	answers := make(map[string]bool, len(unknown))
	for _, author := range unknown {
		answers[author] = v.home(user, author)
		known[author] = answers[author]
	}
	s.views.add(user, e, answers)
	return known, nil
}
