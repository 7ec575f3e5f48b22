package bench

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	pb "activityfeed/proto/activityfeed/v1"
)

// fanout is a measurement under way.
type fanout struct {
	cfg    FanoutConfig
	redis  *redis.Client
	log    *slog.Logger
	people *population

	ceiling, ours, zadd measured
	zsetBytes           float64
	posts, deliveries   int
}

// fillSortedSets does the same for the comparison.
func (f *fanout) fillSortedSets(ctx context.Context) error {
	before, err := f.people.usedMemory(ctx)
	if err != nil {
		return err
	}
	members := make([]redis.Z, 0, f.cfg.Entries)
	for i, id := range oldIDs(f.cfg.Entries) {
		members = append(members, redis.Z{Score: float64(time.Now().UnixMilli() - int64(i)), Member: id})
	}
	if err := f.redis.ZAdd(ctx, zsetKey(0), members...).Err(); err != nil {
		return err
	}
	err = f.people.inPipelines(ctx, f.cfg.Users, 50, func(pipe redis.Pipeliner, user int) {
		if user > 0 {
			pipe.Copy(ctx, zsetKey(0), zsetKey(user), 0, false)
		}
	})
	if err != nil {
		return err
	}
	after, err := f.people.usedMemory(ctx)
	f.zsetBytes = float64(after-before) / float64(f.cfg.Users*f.cfg.Entries)
	return err
}

func zsetKey(user int) string { return "zset:{" + userName(user) + "}" }

// round measures each way once, on lists of the same length.
func (f *fanout) round(ctx context.Context) error {
	posts, err := f.people.drawPosts(f.cfg.Posts / f.cfg.Rounds)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		into *measured
		run  func(context.Context, []*pb.PhotoPosted) (deliveries int, rate float64, err error)
	}{{&f.ours, f.measureOurs}, {&f.ceiling, f.measureCeiling}, {&f.zadd, f.measureZadd}} {
		before, err := f.people.usedCPU(ctx)
		if err != nil {
			return err
		}
		deliveries, rate, err := way.run(ctx, posts)
		if err != nil {
			return err
		}
		after, err := f.people.usedCPU(ctx)
		if err != nil {
			return err
		}
		way.into.rates = append(way.into.rates, rate)
		way.into.micros = append(way.into.micros, (after-before)*1e6/float64(deliveries))
		err = f.people.trim(ctx)
		if err != nil {
			return fmt.Errorf("trim: %w", err)
		}
	}
	return nil
}

// measureOurs lets the feed push the posts, from the log to the lists.
func (f *fanout) measureOurs(ctx context.Context, posts []*pb.PhotoPosted) (deliveries int, rate float64, err error) {
	p, err := f.people.push(ctx, f.cfg.Brokers, f.cfg.InFlight, posts, f.log)
	f.posts += len(posts)
	f.deliveries += p.deliveries
	return p.deliveries, p.rate, err
}

// measureCeiling lets redis-benchmark push as much into the same lists.
func (f *fanout) measureCeiling(ctx context.Context, posts []*pb.PhotoPosted) (deliveries int, rate float64, err error) {
	deliveries = f.people.audience(posts)
	rate, err = f.people.ceiling(ctx, deliveries, posts[0].GetPhoto().GetPostId())
	return deliveries, rate, err
}

// ceiling lets redis-benchmark push an id n times into the lists of users who are
// drawn, and returns the pushes a second.
func (p *population) ceiling(ctx context.Context, n int, id string) (rate float64, err error) {
	host, port, err := net.SplitHostPort(p.redis.Options().Addr)
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-h", host, "-p", port, "--csv",
		"-P", "500", "-c", "4", "-n", strconv.Itoa(n), "-r", strconv.Itoa(p.users),
		"LPUSHX", "feed:{__rand_int__}", id).Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	return parseBenchmark(strings.NewReader(string(out)))
}

// parseBenchmark reads the requests a second from `redis-benchmark --csv`.
func parseBenchmark(r io.Reader) (float64, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[1]) < 2 || rows[0][1] != "rps" {
		return 0, fmt.Errorf("redis-benchmark: unexpected output %q, %w", rows, err)
	}
	return strconv.ParseFloat(rows[1][1], 64)
}

// zaddPosts is how many posts of a round the sorted sets get: they are slower.
const zaddPosts = 4

// measureZadd pushes posts as DeathStarBench does: a pipeline a post, ZADD NX a
// follower, four at once. The log, the body and the trim are left out: it never
// trims.
func (f *fanout) measureZadd(ctx context.Context, posts []*pb.PhotoPosted) (deliveries int, rate float64, err error) {
	posts = posts[:max(1, len(posts)/zaddPosts)]
	deliveries = f.people.audience(posts)
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, post := range posts {
		author, err := strconv.Atoi(post.GetPhoto().GetAuthorId())
		if err != nil {
			return 0, 0, err
		}
		g.Go(func() error {
			p := f.redis.Pipeline()
			member := redis.Z{Score: float64(time.Now().UnixMilli()), Member: post.GetPhoto().GetPostId()}
			for _, follower := range f.people.graph.followers[author] {
				p.ZAddNX(ctx, zsetKey(int(follower)), member)
			}
			p.ZAddNX(ctx, zsetKey(author), member)
			_, err := p.Exec(ctx)
			return err
		})
	}
	err = g.Wait()
	return deliveries, float64(deliveries) / time.Since(start).Seconds(), err
}
