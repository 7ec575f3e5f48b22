package feed

import (
	"container/list"
	"context"
	"iter"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// wholeAudience is up to how many followers are read in one reply; more are
// scanned, because one long reply would hold up all others on that Redis.
const wholeAudience = 5000

// audienceOf returns the keys of the home feed of the author, if one is named, and
// of those of every step-th entry of a followers hash. They share one string: a key
// takes its length and 16 bytes.
func audienceOf(author string, entries []string, step int) []string {
	var all strings.Builder
	ends := make([]int, 0, 1+len(entries)/step)
	add := func(user string) {
		all.WriteString(feedKey(user))
		ends = append(ends, all.Len())
	}
	if author != "" {
		add(author)
	}
	for i := 0; i < len(entries); i += step {
		if user := entries[i]; user != generationField && user != author {
			add(user)
		}
	}
	// The builder has up to twice the room that it needs, and this is kept.
	keys, feeds, start := strings.Clone(all.String()), make([]string, len(ends)), 0
	for i, end := range ends {
		feeds[i], start = keys[start:end], end
	}
	return feeds
}

// audience yields the feeds into which an author's post goes, in parts: the author's
// own home feed and the followers'. size and generation are of the hash of the
// followers, read after the post was in the author's list.
func (s *redisStore) audience(ctx context.Context, author string, size int, generation string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		if size == 0 {
			yield(audienceOf(author, nil, 1), nil)
			return
		}
		all := s.audiences.get(author, generation)
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
			all = audienceOf(author, cmd.Val(), 1)
			// The followers may have changed since the generation was read; then this
			// is kept under a generation that is never asked for again.
			s.audiences.put(author, generation, all)
		}
		yield(all, nil)
	}
}

// scanAudience goes through a large audience in parts of about a pipeline. A
// follower may come twice, which a push survives; none who follows all the while
// is left out (HSCAN's own promise), and nobody's follow of this author is
// handled while one of the author's posts is.
func (s *redisStore) scanAudience(ctx context.Context, author string, yield func([]string, error) bool) {
	if !yield(audienceOf(author, nil, 1), nil) {
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
		if part := audienceOf("", entries, 2); !yield(part, nil) || cursor == 0 {
			return
		}
	}
}

// audienceCache keeps the feeds that authors who posted lately push into, so that
// their next post costs no reading and no decoding. An entry counts only for
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
	feeds              []string
}

// weight counts the entry as one follower or two more.
func (c *cachedAudience) weight() int { return len(c.feeds) + 2 }

func newAudienceCache(limit int) *audienceCache {
	return &audienceCache{limit: limit, recent: list.New(), byName: map[string]*list.Element{}}
}

// get returns the feeds of an author, which must not be changed; nil if there are
// none of this generation.
func (c *audienceCache) get(author, generation string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[author]
	if !ok {
		return nil
	}
	entry := entryOf(e)
	if entry.generation != generation {
		c.remove(e)
		return nil
	}
	c.recent.MoveToFront(e)
	return entry.feeds
}

// put keeps the feeds of an author.
func (c *audienceCache) put(author, generation string, feeds []string) {
	if len(feeds) > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[author]; ok {
		c.remove(e)
	}
	entry := &cachedAudience{author, generation, feeds}
	c.byName[author] = c.recent.PushFront(entry)
	c.size += entry.weight()
	for c.size > c.limit {
		c.remove(c.recent.Back())
	}
}

func (c *audienceCache) remove(e *list.Element) {
	entry := entryOf(e)
	c.recent.Remove(e)
	delete(c.byName, entry.author)
	c.size -= entry.weight()
}

func entryOf(e *list.Element) *cachedAudience {
	entry, _ := e.Value.(*cachedAudience) // nothing else is in the list
	return entry
}
