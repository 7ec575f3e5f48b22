package feed

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redispipe"
)

const (
	// newsKept is about how many deletes the stream of news holds.
	newsKept = 10_000
	// newsRead is how many deletes are learnt at once. A process that missed more
	// begins with an empty memory, so it never needs what the stream has lost.
	newsRead = 1_000
	// newsNamed is of how many of the last deletes it is known which posts they were.
	newsNamed = 256
	// bodyWeight is what a kept body takes besides its own bytes: measured with one
	// picture and 50,000 posts.
	bodyWeight = 450
)

// bodyCache keeps the bodies of posts that were read lately, so that a page of
// posts which everybody reads costs no look at each. A body never changes but for
// its delete, and deletes are told in the stream newsKey: every pipeline of reads
// asks for the news too, and what it learns is true before any of its readers
// goes on. So a delete is true on the next read, here as in Redis.
type bodyCache struct {
	// limit is how many bytes it holds; none if not positive.
	limit int

	mu   sync.Mutex
	size int
	kept *simplelru.LRU[event.ID, *post]
	// place is up to where the news are known; nothing is kept before it is.
	place newsID
	// learnt counts the deletes: a body that was read before one of them came may
	// be of a post that is gone. named are the last of them, the n-th at n modulo their
	// number; which posts the first unnamed were, nobody knows any more.
	learnt, unnamed uint64
	named           [newsNamed]event.ID
}

// newsID is an id of a Redis stream; they only grow.
type newsID struct {
	known   bool
	ms, seq uint64
}

func (p newsID) String() string { return fmt.Sprintf("%d-%d", p.ms, p.seq) }

func (p newsID) after(q newsID) bool { return p.ms > q.ms || p.ms == q.ms && p.seq > q.seq }

func parseNewsID(id string) (newsID, bool) {
	first, second, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return newsID{}, false
	}
	seq, err := strconv.ParseUint(second, 10, 64)
	return newsID{known: true, ms: ms, seq: seq}, err == nil
}

func newBodyCache(limit int) *bodyCache {
	c := &bodyCache{limit: limit}
	c.kept = newLRU(func(_ event.ID, p *post) { c.size -= p.weight() })
	return c
}

// newLRU returns what keeps the order of use in a memory whose owner bounds its size by
// other than the number of entries.
func newLRU[K comparable, V any](evicted func(K, V)) *simplelru.LRU[K, V] {
	const many = 1 << 30
	lru, _ := simplelru.NewLRU(many, evicted) // fails for sizes below 1 only
	return lru
}

// get puts the posts that are kept into the places of their ids and returns the
// other ids, with what put has to be told.
func (c *bodyCache) get(ids []event.ID, found []*post) (missing []event.ID, learnt uint64) {
	if c.limit <= 0 {
		return ids, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		if p, ok := c.kept.Get(id); ok {
			found[i] = p
		} else {
			missing = append(missing, id)
		}
	}
	return missing, c.learnt
}

// put keeps bodies that were read after learnt was returned by get.
func (c *bodyCache) put(posts []*post, learnt uint64) {
	if c.limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.place.known || learnt != c.learnt {
		return
	}
	for _, p := range posts {
		if !c.kept.Contains(p.id) {
			c.size += p.weight()
			c.kept.Add(p.id, p)
		}
	}
	for c.size > c.limit {
		c.kept.RemoveOldest()
	}
}

// ask returns the command that asks for the deletes since the last answer, nil if
// nothing is kept.
func (c *bodyCache) ask(ctx context.Context) redis.Cmder {
	if c.limit <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.place.known {
		return redis.NewXMessageSliceCmd(ctx, "xrevrange", newsKey, "+", "-", "count", 1)
	}
	return redis.NewXStreamSliceCmd(ctx, "xread", "count", newsRead, "streams", newsKey, c.place.String())
}

// learn takes the answer: it forgets the bodies of deleted posts, and everything
// if it cannot tell which they are.
func (c *bodyCache) learn(answer redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch cmd := answer.(type) {
	case *redis.XMessageSliceCmd:
		c.begin(cmd)
	case *redis.XStreamSliceCmd:
		var news []redis.XMessage
		if streams := cmd.Val(); len(streams) > 0 {
			news = streams[0].Messages
		}
		if redispipe.FirstError([]redis.Cmder{cmd}) != nil || len(news) >= newsRead {
			c.forget()
			return
		}
		for _, item := range news {
			c.hear(item)
		}
	}
}

// begin takes the newest place of the stream as that from which on news are known.
func (c *bodyCache) begin(cmd *redis.XMessageSliceCmd) {
	if c.place.known || cmd.Err() != nil {
		return
	}
	c.place = newsID{known: true}
	// What was read before, perhaps before a delete that was told before this place.
	c.learnt++
	c.unnamed = c.learnt
	if newest := cmd.Val(); len(newest) > 0 {
		c.place, _ = parseNewsID(newest[0].ID)
	}
}

// hear takes one delete, perhaps again.
func (c *bodyCache) hear(item redis.XMessage) {
	at, ok := parseNewsID(item.ID)
	text, _ := item.Values[newsField].(string)
	id, err := event.ParseID(text)
	if !ok || err != nil {
		c.forget()
		return
	}
	if at.after(c.place) {
		c.place = at
		c.learnt++
		c.named[c.learnt%newsNamed] = id
	}
	c.kept.Remove(id)
}

func (c *bodyCache) forget() {
	c.kept.Purge()
	c.size = 0
	c.place = newsID{}
	c.learnt++
	c.unnamed = c.learnt
}

// told returns how many deletes were told, false while nobody tells.
func (c *bodyCache) told() (learnt uint64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.learnt, c.place.known
}

// anyGone says whether one of the posts was deleted after so many deletes, or may have
// been, and how many there are now.
func (c *bodyCache) anyGone(ids []event.ID, since uint64) (gone bool, learnt uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since < c.unnamed || c.learnt-since > newsNamed {
		return true, c.learnt
	}
	for n := since; n < c.learnt; n++ {
		if slices.Contains(ids, c.named[(n+1)%newsNamed]) {
			return true, c.learnt
		}
	}
	return false, c.learnt
}
