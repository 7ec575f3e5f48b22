package feed

import (
	"container/list"
	"context"
	"iter"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// wholeAudience is up to how many followers are read in one reply; more are
// scanned, because one long reply would hold up all others on that Redis.
const wholeAudience = 5000

// audience yields the pushes of an author's post, in parts: into the author's own
// home feed and the followers'. size and generation are of the hash of the
// followers, read after the post was in the author's list.
func (s *redisStore) audience(ctx context.Context, author string, size int, generation string) iter.Seq2[*pushes, error] {
	return func(yield func(*pushes, error) bool) {
		if size == 0 {
			yield(newPushes(author, nil, 1), nil)
			return
		}
		all := s.audiences.take(author, generation)
		switch {
		case all != nil:
		case size > wholeAudience+1: // the generation is an entry too
			s.scanAudience(ctx, author, yield)
			return
		default:
			cmd := redis.NewStringSliceCmd(ctx, "hkeys", followers.key(author))
			if err := s.writes.do(ctx, cmd); err != nil {
				yield(nil, redisfault.Of(err, "read followers of %s", author))
				return
			}
			all = newPushes(author, cmd.Val(), 1)
		}
		// After a failure the commands may still be under way.
		if yield(all, nil) {
			// The followers may have changed since the generation was read; then this
			// is kept under a generation that is never asked for again.
			s.audiences.put(author, generation, all)
		}
	}
}

// scanAudience goes through a large audience in parts of about a pipeline. A
// follower may come twice, which a push survives; none who follows all the while
// is left out (HSCAN's own promise), and nobody's follow of this author is
// handled while one of the author's posts is.
func (s *redisStore) scanAudience(ctx context.Context, author string, yield func(*pushes, error) bool) {
	if !yield(newPushes(author, nil, 1), nil) {
		return
	}
	for cursor := uint64(0); ; {
		cmd := redis.NewScanCmd(ctx, s.redis.Process, "hscan", followers.key(author), cursor, "count", s.cfg.PipelineSize)
		if err := s.writes.do(ctx, cmd); err != nil {
			yield(nil, redisfault.Of(err, "scan followers of %s", author))
			return
		}
		var entries []string
		entries, cursor = cmd.Val()
		if part := newPushes("", entries, 2); !yield(part, nil) || cursor == 0 {
			return
		}
	}
}

// audienceCache keeps the pushes of authors who posted lately, so that their next
// post costs no reading, no decoding and no new commands. An entry counts only for
// the generation that Redis tells when the post is listed; so it is as good as
// having read the followers at that moment. A cache that trusted the partition's
// ownership would not be: a process that lost a partition while it was stopped
// finds out too late.
type audienceCache struct {
	// limit is how many followers it holds; none if not positive.
	limit int

	mu     sync.Mutex
	size   int
	recent *list.List // of *cachedAudience, the last used in front
	byName map[string]*list.Element
}

type cachedAudience struct {
	author, generation string
	pushes             *pushes
}

func newAudienceCache(limit int) *audienceCache {
	return &audienceCache{limit: limit, recent: list.New(), byName: map[string]*list.Element{}}
}

// take removes the pushes of an author, so that the caller has them alone, and
// returns them; nil if there are none of this generation.
func (c *audienceCache) take(author, generation string) *pushes {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[author]
	if !ok {
		return nil
	}
	entry := c.remove(e)
	if entry.generation != generation {
		return nil
	}
	return entry.pushes
}

// put keeps pushes that nobody uses any more.
func (c *audienceCache) put(author, generation string, all *pushes) {
	if all.len() > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[author]; ok {
		c.remove(e)
	}
	c.byName[author] = c.recent.PushFront(&cachedAudience{author, generation, all})
	c.size += all.weight()
	for c.size > c.limit {
		c.remove(c.recent.Back())
	}
}

func (c *audienceCache) remove(e *list.Element) *cachedAudience {
	entry, _ := c.recent.Remove(e).(*cachedAudience) // nothing else is in the list
	delete(c.byName, entry.author)
	c.size -= entry.pushes.weight()
	return entry
}
