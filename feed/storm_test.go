package feed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// storm is a Redis after a long outage: thousands of authors, and users none of
// whom has a list.
type storm struct {
	w       *world
	authors int
	// posts holds the authors' posts, newest first.
	posts [][]event.ID
}

// newStorm keeps ten posts of each author, a minute apart.
func newStorm(t testing.TB, authors int) *storm {
	s := &storm{w: newWorld(t, single(testenv.Redis(t))), authors: authors, posts: make([][]event.ID, authors)}
	const each = 10
	start := s.w.clock.Now()
	s.pipe(t, authors, func(p redis.Pipeliner, author int) {
		ids := make([]any, 0, each)
		for post := range each {
			at := start.Add(time.Duration(post)*time.Minute + time.Duration(author)*time.Millisecond)
			id := event.FirstID(at)
			value, err := encodePost(posted(starName(author), id, at).GetPhoto())
			if err != nil {
				t.Fatal(err)
			}
			p.Set(t.Context(), postKey(id), value, 0)
			ids = append(ids, id.String())
			s.posts[author] = append(s.posts[author], id)
		}
		p.LPush(t.Context(), authorKey(starName(author)), ids...)
	})
	s.w.clock.Advance(time.Hour)
	return s
}

func starName(i int) string { return fmt.Sprintf("star%04d", i) }

func (s *storm) pipe(t testing.TB, n int, each func(p redis.Pipeliner, i int)) {
	t.Helper()
	for part := range slices.Chunk(slices.Collect(seq(n)), 200) {
		p := s.w.raw.Pipeline()
		for _, i := range part {
			each(p, i)
		}
		if _, err := p.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func seq(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// crowd makes n users, each of whom follows so many authors, and returns what is on
// the first page of each.
func (s *storm) crowd(t testing.TB, kind string, n, follows int) map[string][]string {
	t.Helper()
	want := map[string][]string{}
	s.pipe(t, n, func(p redis.Pipeliner, i int) {
		user := fmt.Sprintf("%s%04d", kind, i)
		fields := make([]any, 0, 2*follows)
		var ids []event.ID
		for f := range follows {
			author := (i*37 + f) % s.authors
			fields = append(fields, starName(author), event.FirstID(s.w.clock.Now()).String())
			ids = append(ids, s.posts[author]...)
		}
		p.HSet(t.Context(), following.key(user), fields...)
		for _, id := range sortedUnique(ids)[:usualPage] {
			want[user] = append(want[user], id.String())
		}
	})
	return want
}

// TestAThousandUsersComeBackAtOnce has every user open the app on three devices at
// the same moment, with no list in Redis, while one user with a warm feed goes on
// reading and an author posts to them.
func TestAThousandUsersComeBackAtOnce(t *testing.T) {
	t.Parallel()
	s := newStorm(t, 5000)
	for _, tt := range []struct {
		name           string
		users, follows int
	}{
		{"a thousand users who follow 200", 1000, 200},
		{"twenty users who follow 5,000", 20, 5000},
	} {
		t.Log(tt.name)
		s.comeBack(t, tt.users, tt.follows)
	}
}

// comeBack has so many users come back.
func (s *storm) comeBack(t *testing.T, users, follows int) {
	const devices = 3
	want := s.crowd(t, fmt.Sprintf("back%d-", follows), users, follows)
	// What Redis and one build may take is generous: the machine may be busy. How many
	// are let in, and who is told to come again, is as it is for everybody.
	cfg := Config{RedisTimeout: maxRedisTimeout, RebuildTimeout: 2 * time.Minute}
	p, writer := s.w.process(t, cfg), s.w.process(t, cfg)
	p.apply(t, followed("warm", "poster"))
	p.wantHome(t, "warm", s.posterPosts(t)...)
	before := testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("built"))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var neighbour sync.WaitGroup
	var warmReads, posts []time.Duration
	neighbour.Go(func() {
		for ctx.Err() == nil {
			warmReads = append(warmReads, timed(func() {
				if _, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "warm"}); err != nil {
					t.Errorf("warm read: %v", err)
				}
			}))
			posts = append(posts, timed(func() { writer.post(t, "poster") }))
		}
	})

	var most atomic.Int64
	p.tap.watch(func() {
		n := int64(len(p.store.building.slots))
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
	})
	var readers sync.WaitGroup
	waits := make([]time.Duration, 0, devices*users)
	var mu sync.Mutex
	start := time.Now()
	for user, page := range want {
		for range devices {
			readers.Go(func() {
				took := timed(func() {
					r, err := p.untilServed(t.Context(), user)
					if err != nil {
						t.Errorf("GetHomeFeed(%s): %v", user, err)
						return
					}
					var got []string
					for _, photo := range r.GetPhotos() {
						got = append(got, photo.GetPostId())
					}
					if !slices.Equal(got, page) || !r.GetHasMore() {
						t.Errorf("GetHomeFeed(%s) = %v, more %v; want %v", user, got, r.GetHasMore(), page)
					}
				})
				mu.Lock()
				defer mu.Unlock()
				waits = append(waits, took)
			})
		}
	}
	readers.Wait()
	all := time.Since(start)
	stop()
	neighbour.Wait()

	builds := testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("built")) - before
	if builds != float64(users) {
		t.Errorf("%v lists were built for %d users", builds, users)
	}
	if limit := p.store.cfg.Rebuilds; most.Load() != int64(limit) {
		t.Errorf("%d builds were let in at once, want %d", most.Load(), limit)
	}
	t.Logf("%d reads of %d cold feeds of %d followees in %v: %v builds (%.0f a second, %d at once), %v told to come again; readers waited p50 %v, p99 %v",
		len(waits), users, follows, all.Round(time.Millisecond), builds, builds/all.Seconds(), most.Load(),
		testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("refused")), quantile(waits, 50), quantile(waits, 99))
	t.Logf("meanwhile a warm feed was read %d times, p50 %v, p99 %v; an author posted, p50 %v, p99 %v",
		len(warmReads), quantile(warmReads, 50), quantile(warmReads, 99), quantile(posts, 50), quantile(posts, 99))
}

// untilServed reads a home feed as a client does that has ten seconds for a call, and
// comes again when it is told to.
func (p *process) untilServed(ctx context.Context, user string) (*pb.GetHomeFeedResponse, error) {
	for {
		deadline := time.Now().Add(10 * time.Second)
		call, cancel := context.WithDeadline(ctx, deadline)
		r, err := p.api.GetHomeFeed(call, &pb.GetHomeFeedRequest{UserId: user})
		cancel()
		if err == nil {
			return r, nil
		}
		again := time.Second
		if f := fault.Of(err); f != nil && f.RetryAfter > 0 {
			again = f.RetryAfter
		} else if time.Now().Before(deadline) { // later it may be any error
			return nil, err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// posterPosts returns what the neighbour's author has posted so far.
func (s *storm) posterPosts(t testing.TB) []string {
	t.Helper()
	return s.w.raw.LRange(t.Context(), authorKey("poster"), 0, -1).Val()
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

// quantile returns the n-th percentile.
func quantile(took []time.Duration, n int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, len(sorted)*n/100)].Round(10 * time.Microsecond)
}
