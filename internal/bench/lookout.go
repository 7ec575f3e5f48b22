package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
)

const (
	// lookEvery is the time between two looks, and how late a look may be. Each post
	// polled for on its own, at 200 µs, were up to 20,000 calls a second: a large part of
	// the load that was measured.
	lookEvery = 500 * time.Microsecond
	// lookDeep is how many of the newest entries are looked at: concurrent posts may
	// stand in front.
	lookDeep = 10
	// lookFor is how long a post may take before something is wrong.
	lookFor = 10 * time.Second
)

// lookout waits for posts to stand in feeds: one goroutine asks for all of them in
// one pipeline.
type lookout struct {
	redis *redis.Client
	seen  func(time.Duration)
	done  chan error

	mu      sync.Mutex
	posts   []expected
	closing bool
}

// expected is a post under way.
type expected struct {
	user int
	id   string
	at   time.Time
}

// newLookout returns a lookout that tells of each post how long it took, until close.
func newLookout(ctx context.Context, client *redis.Client, seen func(time.Duration)) *lookout {
	l := &lookout{redis: client, seen: seen, done: make(chan error, 1)}
	go func() { l.done <- l.run(ctx) }()
	return l
}

// expect begins to wait for a post in a user's feed.
func (l *lookout) expect(user int, id event.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts = append(l.posts, expected{user, id.String(), time.Now()})
}

// close returns when all posts have come.
func (l *lookout) close() error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	return <-l.done
}

func (l *lookout) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
		posts, closing := slices.Clone(l.posts), l.closing
		l.mu.Unlock()
		if len(posts) == 0 {
			if closing {
				return nil
			}
			continue
		}
		come, err := l.look(ctx, posts)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.posts = slices.DeleteFunc(l.posts, func(e expected) bool { return come[e.id] })
		l.mu.Unlock()
	}
}

// look returns which of the posts have come.
func (l *lookout) look(ctx context.Context, posts []expected) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	pipe := l.redis.Pipeline()
	heads := make([]*redis.StringSliceCmd, len(posts))
	for i, e := range posts {
		heads[i] = pipe.LRange(ctx, listKey(e.user), 0, lookDeep-1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	come := map[string]bool{}
	for i, e := range posts {
		took := time.Since(e.at)
		if slices.Contains(heads[i].Val(), e.id) {
			come[e.id] = true
			l.seen(took)
		} else if took > lookFor {
			return nil, fmt.Errorf("post %s does not come to the feed of %s within %s", e.id, userName(e.user), lookFor)
		}
	}
	return come, nil
}
