package feed

import (
	"container/list"
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// wholeAudience is up to how many followers are read in one reply; more are
// scanned, because one long reply would hold up all others on that Redis.
const wholeAudience = 5000

// audience yields the keys of the home feeds that get an author's post, in parts:
// the author's own and the followers'. size and generation are of the hash of the
// followers, read after the post was in the author's list.
func (s *redisStore) audience(ctx context.Context, author string, size int, generation string) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		if size == 0 {
			yield([]any{feedKey(author)}, nil)
			return
		}
		if feeds, ok := s.audiences.get(author, generation); ok {
			yield(feeds, nil)
			return
		}
		if size > wholeAudience+1 { // the generation is an entry too
			s.scanAudience(ctx, author, yield)
			return
		}
		cmd := redis.NewStringSliceCmd(ctx, "hkeys", followers.key(author))
		if err := s.writes.do(ctx, cmd); err != nil {
			yield(nil, redisfault.Of(err, "read followers of %s", author))
			return
		}
		feeds := appendFeeds([]any{feedKey(author)}, author, cmd.Val(), 1)
		// The followers may have changed since the generation was read; then this
		// is kept under a generation that is never asked for again.
		s.audiences.put(author, generation, feeds)
		yield(feeds, nil)
	}
}

// scanAudience goes through a large audience in parts of about a pipeline. A
// follower may come twice, which a push survives; none who follows all the while
// is left out (HSCAN's own promise), and nobody's follow of this author is
// handled while one of the author's posts is.
func (s *redisStore) scanAudience(ctx context.Context, author string, yield func([]any, error) bool) {
	feeds := []any{feedKey(author)}
	for cursor := uint64(0); ; {
		cmd := redis.NewScanCmd(ctx, s.redis.Process, "hscan", followers.key(author), cursor, "count", s.cfg.PipelineSize)
		if err := s.writes.do(ctx, cmd); err != nil {
			yield(nil, redisfault.Of(err, "scan followers of %s", author))
			return
		}
		var entries []string
		entries, cursor = cmd.Val()
		if !yield(appendFeeds(feeds, author, entries, 2), nil) || cursor == 0 {
			return
		}
		feeds = nil
	}
}

// appendFeeds appends the feed of every step-th entry of a followers hash, ready
// to be an argument of a command. The author has a place already.
func appendFeeds(feeds []any, author string, entries []string, step int) []any {
	feeds = slices.Grow(feeds, len(entries)/step)
	for i := 0; i < len(entries); i += step {
		if user := entries[i]; user != generationField && user != author {
			feeds = append(feeds, feedKey(user))
		}
	}
	return feeds
}

// audienceCache keeps the followers of authors who posted lately, so that their
// next post costs no reading and no decoding. An entry counts only for the
// generation that Redis tells when the post is listed; so it is as good as having
// read the followers at that moment. A cache
// that trusted the partition's ownership would not be: a process that lost a
// partition while it was stopped finds out too late.
type audienceCache struct {
	// limit is how many follower ids it holds; none if not positive.
	limit int

	mu     sync.Mutex
	size   int
	recent *list.List // of *cachedAudience, the last used in front
	byName map[string]*list.Element
}

type cachedAudience struct {
	author, generation string
	feeds              []any
}

func newAudienceCache(limit int) *audienceCache {
	return &audienceCache{limit: limit, recent: list.New(), byName: map[string]*list.Element{}}
}

func (c *audienceCache) get(author, generation string) ([]any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[author]
	if !ok || entryOf(e).generation != generation {
		return nil, false
	}
	c.recent.MoveToFront(e)
	return entryOf(e).feeds, true
}

func (c *audienceCache) put(author, generation string, feeds []any) {
	if len(feeds) > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[author]; ok {
		c.remove(e)
	}
	c.byName[author] = c.recent.PushFront(&cachedAudience{author, generation, feeds})
	c.size += weight(feeds)
	for c.size > c.limit {
		c.remove(c.recent.Back())
	}
}

func (c *audienceCache) remove(e *list.Element) {
	entry := entryOf(e)
	c.recent.Remove(e)
	delete(c.byName, entry.author)
	c.size -= weight(entry.feeds)
}

func entryOf(e *list.Element) *cachedAudience {
	entry, _ := e.Value.(*cachedAudience) // nothing else is in the list
	return entry
}

// weight counts an entry itself as one more follower or two.
func weight(feeds []any) int { return len(feeds) + 2 }
