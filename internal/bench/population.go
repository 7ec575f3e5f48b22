package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/feed"
	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// population is the users of a Redis of its own, each with a full home feed, and
// who follows whom.
type population struct {
	redis   *redis.Client
	users   int
	entries int // of each feed
	graph   powerLaw

	// listBytes is what an entry of a feed takes of Redis's memory.
	listBytes float64
}

// fill writes the follows and the feeds.
func (p *population) fill(ctx context.Context) error {
	if err := p.keepGraph(ctx); err != nil {
		return fmt.Errorf("keep the graph: %w", err)
	}
	if err := p.fillLists(ctx); err != nil {
		return fmt.Errorf("fill the lists: %w", err)
	}
	return nil
}

// keepGraph writes the followers as the feed keeps them. The measurement fails if
// the feed does not find them: it counts the deliveries.
func (p *population) keepGraph(ctx context.Context) error {
	ids, err := idSource()
	if err != nil {
		return err
	}
	return p.inPipelines(ctx, p.users, 50, func(pipe redis.Pipeliner, user int) {
		fields := []any{"#", "bench"}
		for _, follower := range p.graph.followers[user] {
			fields = append(fields, userName(int(follower)), ids.Next().String())
		}
		pipe.HSet(ctx, "followers:{"+userName(user)+"}", fields...)
	})
}

// phases is how many different feeds are copied: Redis keeps a list in pieces of
// 8 KB, and what a push costs depends on how full the first one is. In feeds that
// have been pushed to for long, all degrees are equally likely.
const phases = 16

// fillLists gives every user a full list of posts of the last days.
func (p *population) fillLists(ctx context.Context) error {
	before, err := p.usedMemory(ctx)
	if err != nil {
		return err
	}
	for phase := range min(phases, p.users) {
		entries := oldIDs(p.entries + p.entries*phase/phases)
		slices.Reverse(entries)
		key := listKey(phase)
		if err := p.redis.LPush(ctx, key, entries...).Err(); err != nil {
			return err
		}
		if err := p.redis.LTrim(ctx, key, 0, int64(p.entries-1)).Err(); err != nil {
			return err
		}
	}
	err = p.inPipelines(ctx, p.users, 500, func(pipe redis.Pipeliner, user int) {
		if user >= phases {
			pipe.Copy(ctx, listKey(user%phases), listKey(user), 0, false)
		}
	})
	if err != nil {
		return err
	}
	after, err := p.usedMemory(ctx)
	p.listBytes = float64(after-before) / float64(p.users*p.entries)
	return err
}

// audience is how many feeds the posts go to: the followers' and the authors'.
func (p *population) audience(posts []*pb.PhotoPosted) int {
	n := 0
	for _, post := range posts {
		author, err := strconv.Atoi(post.GetPhoto().GetAuthorId())
		if err == nil {
			n += 1 + len(p.graph.followers[author])
		}
	}
	return n
}

// drawPosts makes n posts.
func (p *population) drawPosts(n int) ([]*pb.PhotoPosted, error) {
	ids, err := idSource()
	if err != nil {
		return nil, err
	}
	posts := make([]*pb.PhotoPosted, n)
	for i := range posts {
		posts[i] = newPost(ids.Next(), userName(p.graph.author()), i)
	}
	return posts, nil
}

// pushed is what a run of the feed gave.
type pushed struct {
	deliveries int
	// rate is deliveries a second.
	rate float64
}

// push writes the posts to the log and lets a feed work them off. The clock runs
// from the first message that the feed gets to the last post that is done.
func (p *population) push(ctx context.Context, brokers []string, inFlight int, posts []*pb.PhotoPosted, log *slog.Logger) (_ pushed, err error) {
	if err := appendFacts(ctx, brokers, posts, log); err != nil {
		return pushed{}, fmt.Errorf("write the log: %w", err)
	}
	s, err := startStack(ctx, stackConfig{
		brokers: brokers, redis: p.redis, inFlight: inFlight, feed: feed.Config{Cap: p.entries},
	}, log)
	if err != nil {
		return pushed{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	done, err := s.awaitPosts(ctx, len(posts))
	if err != nil {
		return pushed{}, err
	}
	deliveries := int(s.counter("activityfeed_feed_deliveries_total"))
	if want := p.audience(posts); deliveries != want {
		return pushed{}, fmt.Errorf("%d deliveries, want %d: the feed keeps its keys otherwise than this benchmark believes", deliveries, want)
	}
	return pushed{deliveries, float64(deliveries) / done.Sub(s.first.at()).Seconds()}, nil
}

// trim cuts all feeds to their length.
func (p *population) trim(ctx context.Context) error {
	return p.inPipelines(ctx, p.users, 500, func(pipe redis.Pipeliner, user int) {
		pipe.LTrim(ctx, listKey(user), 0, int64(p.entries-1))
	})
}

// listKey is the key of a home feed.
func listKey(user int) string { return "feed:{" + userName(user) + "}" }

// oldIDs are the entries of a list, newest first, ten minutes apart.
func oldIDs(n int) []any {
	ids := make([]any, n)
	for i := range ids {
		ids[i] = (event.FirstID(time.Now().Add(-time.Duration(i+1)*10*time.Minute)) + 1).String()
	}
	return ids
}

// inPipelines calls add for 0..n-1 and sends the commands in pipelines.
func (p *population) inPipelines(ctx context.Context, n, size int, add func(pipe redis.Pipeliner, i int)) error {
	for start := 0; start < n; start += size {
		pipe := p.redis.Pipeline()
		for i := start; i < min(start+size, n); i++ {
			add(pipe, i)
		}
		if pipe.Len() == 0 {
			continue
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *population) usedMemory(ctx context.Context) (int64, error) {
	bytes, err := p.info(ctx, "memory", "used_memory")
	return int64(bytes), err
}

// usedCPU is the time that Redis has computed since its start, in seconds.
func (p *population) usedCPU(ctx context.Context) (float64, error) {
	user, err := p.info(ctx, "cpu", "used_cpu_user")
	if err != nil {
		return 0, err
	}
	system, err := p.info(ctx, "cpu", "used_cpu_sys")
	return user + system, err
}

func (p *population) info(ctx context.Context, section, field string) (float64, error) {
	info, err := p.redis.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("redis does not tell %s", field)
}
