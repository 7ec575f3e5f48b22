package bench

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/feed"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	pb "activityfeed/proto/activityfeed/v1"
)

// fanout is a measurement under way.
type fanout struct {
	cfg   FanoutConfig
	redis *redis.Client
	log   *slog.Logger
	graph powerLaw

	ceiling, ours, zadd  measured
	listBytes, zsetBytes float64
	posts, deliveries    int
}

// powerLaw is a directed graph in which few users have most followers.
type powerLaw struct {
	// followers holds each user's followers.
	followers [][]int32
	follows   int
	// drawn holds the running sum of the numbers of followers, to draw authors by.
	drawn []int
	rand  *rand.Rand
}

// exponent is that of the numbers of followers by rank: with 20,000 users and 150
// followers a post the most popular one has some 4,000, the least ten.
const exponent = 0.6

// newPowerLaw returns a graph, always the same one, in which a post of an author
// who is drawn by the number of followers reaches about audience of them.
func newPowerLaw(users, audience int) powerLaw {
	g := powerLaw{followers: make([][]int32, users), drawn: make([]int, users), rand: rand.New(rand.NewPCG(1, 2))}
	var sum, squares float64
	for rank := range users {
		share := math.Pow(float64(rank+1), -exponent)
		sum += share
		squares += share * share
	}
	scale := float64(audience) * sum / squares
	for rank, user := range g.rand.Perm(users) {
		n := min(users-1, max(1, int(scale*math.Pow(float64(rank+1), -exponent))))
		g.followers[user] = g.pick(users, n, user)
	}
	for user, f := range g.followers {
		g.follows += len(f)
		g.drawn[user] = g.follows
	}
	return g
}

// pick returns n different users but for one.
func (g *powerLaw) pick(users, n, but int) []int32 {
	seen := make(map[int]bool, n+1)
	seen[but] = true
	picked := make([]int32, 0, n)
	for len(picked) < n {
		if u := g.rand.IntN(users); !seen[u] {
			seen[u] = true
			picked = append(picked, int32(u))
		}
	}
	return picked
}

// author draws an author by the number of followers.
func (g *powerLaw) author() int {
	user, _ := slices.BinarySearch(g.drawn, 1+g.rand.IntN(g.follows))
	return user
}

// inPipelines calls add for 0..n-1 and sends the commands in pipelines.
func (f *fanout) inPipelines(ctx context.Context, n, size int, add func(p redis.Pipeliner, i int)) error {
	for start := 0; start < n; start += size {
		p := f.redis.Pipeline()
		for i := start; i < min(start+size, n); i++ {
			add(p, i)
		}
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keepGraph writes the followers as the feed keeps them. The measurement fails if
// the feed does not find them: it counts the deliveries.
func (f *fanout) keepGraph(ctx context.Context) error {
	ids, err := idSource()
	if err != nil {
		return err
	}
	return f.inPipelines(ctx, f.cfg.Users, 50, func(p redis.Pipeliner, user int) {
		fields := []any{"#", "bench"}
		for _, follower := range f.graph.followers[user] {
			fields = append(fields, userName(int(follower)), ids.Next().String())
		}
		p.HSet(ctx, "followers:{"+userName(user)+"}", fields...)
	})
}

// fillLists gives every user a full list of posts of the last days.
func (f *fanout) fillLists(ctx context.Context) error {
	before, err := f.usedMemory(ctx)
	if err != nil {
		return err
	}
	entries := f.oldIDs()
	err = f.inPipelines(ctx, f.cfg.Users, 50, func(p redis.Pipeliner, user int) {
		p.RPush(ctx, listKey(user), entries...)
	})
	if err != nil {
		return err
	}
	after, err := f.usedMemory(ctx)
	f.listBytes = float64(after-before) / float64(f.cfg.Users*f.cfg.Entries)
	return err
}

// fillSortedSets does the same for the comparison.
func (f *fanout) fillSortedSets(ctx context.Context) error {
	before, err := f.usedMemory(ctx)
	if err != nil {
		return err
	}
	members := make([]redis.Z, 0, f.cfg.Entries)
	for i, id := range f.oldIDs() {
		members = append(members, redis.Z{Score: float64(time.Now().UnixMilli() - int64(i)), Member: id})
	}
	err = f.inPipelines(ctx, f.cfg.SortedSets, 10, func(p redis.Pipeliner, user int) {
		p.ZAdd(ctx, zsetKey(user), members...)
	})
	if err != nil {
		return err
	}
	after, err := f.usedMemory(ctx)
	f.zsetBytes = float64(after-before) / float64(f.cfg.SortedSets*f.cfg.Entries)
	return err
}

func listKey(user int) string { return "feed:{" + userName(user) + "}" }
func zsetKey(user int) string { return "zset:{" + userName(user) + "}" }

// oldIDs are the entries of a full list, newest first, ten minutes apart.
func (f *fanout) oldIDs() []any {
	ids := make([]any, f.cfg.Entries)
	for i := range ids {
		ids[i] = (event.FirstID(time.Now().Add(-time.Duration(i+1)*10*time.Minute)) + 1).String()
	}
	return ids
}

func (f *fanout) usedMemory(ctx context.Context) (int64, error) {
	bytes, err := f.info(ctx, "memory", "used_memory")
	return int64(bytes), err
}

// usedCPU is the time that Redis has computed since its start, in seconds.
func (f *fanout) usedCPU(ctx context.Context) (float64, error) {
	user, err := f.info(ctx, "cpu", "used_cpu_user")
	if err != nil {
		return 0, err
	}
	system, err := f.info(ctx, "cpu", "used_cpu_sys")
	return user + system, err
}

func (f *fanout) info(ctx context.Context, section, field string) (float64, error) {
	info, err := f.redis.Info(ctx, section).Result()
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

// round measures each way once, on lists of the same length.
func (f *fanout) round(ctx context.Context) error {
	posts, err := f.drawPosts()
	if err != nil {
		return err
	}
	for _, way := range []struct {
		into *measured
		run  func(context.Context, []*pb.PhotoPosted) (deliveries int, rate float64, err error)
	}{{&f.ours, f.measureOurs}, {&f.ceiling, f.measureCeiling}, {&f.zadd, f.measureZadd}} {
		before, err := f.usedCPU(ctx)
		if err != nil {
			return err
		}
		deliveries, rate, err := way.run(ctx, posts)
		if err != nil {
			return err
		}
		after, err := f.usedCPU(ctx)
		if err != nil {
			return err
		}
		way.into.rates = append(way.into.rates, rate)
		way.into.micros = append(way.into.micros, (after-before)*1e6/float64(deliveries))
		err = f.inPipelines(ctx, f.cfg.Users, 500, func(p redis.Pipeliner, user int) {
			p.LTrim(ctx, listKey(user), 0, int64(f.cfg.Entries-1))
		})
		if err != nil {
			return fmt.Errorf("trim: %w", err)
		}
	}
	return nil
}

// drawPosts makes the posts of one round.
func (f *fanout) drawPosts() ([]*pb.PhotoPosted, error) {
	ids, err := idSource()
	if err != nil {
		return nil, err
	}
	posts := make([]*pb.PhotoPosted, f.cfg.Posts/f.cfg.Rounds)
	for i := range posts {
		posts[i] = &pb.PhotoPosted{Photo: &pb.Photo{
			PostId:     ids.Next().String(),
			AuthorId:   userName(f.graph.author()),
			Media:      []*pb.Media{{Url: "https://img.example/photos/" + strconv.Itoa(i) + ".jpg", Width: 1080, Height: 1350, Blurhash: "LEHV6nWB2yk8pyo0adR*.7kCMdnj"}},
			Caption:    "a caption of the usual length, as people write below a photo",
			CreateTime: timestamppb.Now(),
		}}
	}
	return posts, nil
}

// audience is how many feeds the posts go to: the followers' and the authors'.
func (f *fanout) audience(posts []*pb.PhotoPosted) int {
	n := 0
	for _, post := range posts {
		author, err := strconv.Atoi(post.GetPhoto().GetAuthorId())
		if err == nil {
			n += 1 + len(f.graph.followers[author])
		}
	}
	return n
}

// measureOurs writes the posts to the log and lets a feed work them off. The clock
// runs from the first message that the feed gets to the last post that is done.
func (f *fanout) measureOurs(ctx context.Context, posts []*pb.PhotoPosted) (deliveries int, rate float64, err error) {
	if err := f.writeLog(ctx, posts); err != nil {
		return 0, 0, fmt.Errorf("write the log: %w", err)
	}
	reg := prometheus.NewRegistry()
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: f.cfg.Brokers}, f.log)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = publisher.Close() }()
	first := &firstMessage{}
	subscribers := make([]message.Subscriber, 2)
	for i := range subscribers {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: f.cfg.Brokers, Group: "feed", MaxInFlight: f.cfg.InFlight,
		}, f.log, nil)
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = s.Close() }() // Run has drained it
		subscribers[i] = s
	}
	first.Subscriber = subscribers[0]
	feeds, err := feed.New(feed.Config{Cap: f.cfg.Entries}, feed.Deps{
		Log: f.log, Redis: f.redis, Subscriber: first, RetrySubscriber: subscribers[1], Publisher: publisher, Metrics: reg,
	})
	if err != nil {
		return 0, 0, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- feeds.Run(run) }()
	done, err := f.awaitPosts(ctx, reg, len(posts), ended)
	if err != nil {
		return 0, 0, err
	}
	delivered := int(counter(reg, "activityfeed_feed_deliveries_total"))
	if want := f.audience(posts); delivered != want {
		return 0, 0, fmt.Errorf("%d deliveries, want %d: the feed keeps its keys otherwise than this benchmark believes", delivered, want)
	}
	f.posts += len(posts)
	f.deliveries += delivered
	stop()
	return delivered, float64(delivered) / done.Sub(first.at()).Seconds(), <-ended
}

// awaitPosts returns when so many posts are done.
func (f *fanout) awaitPosts(ctx context.Context, reg *prometheus.Registry, n int, ended <-chan error) (time.Time, error) {
	// A post every 10 ms is far below what any engine does.
	limit := time.NewTimer(time.Minute + time.Duration(n)*10*time.Millisecond)
	defer limit.Stop()
	// Asking costs 0.2 ms.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if int(counter(reg, "activityfeed_feed_posts_total")) >= n {
				return time.Now(), nil
			}
		case err := <-ended:
			return time.Time{}, fmt.Errorf("the feed ended: %w", err)
		case <-limit.C:
			return time.Time{}, errors.New("the feed does not come to an end")
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// writeLog puts the posts on the topic.
func (f *fanout) writeLog(ctx context.Context, posts []*pb.PhotoPosted) error {
	ids, err := idSource()
	if err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: f.cfg.Brokers}, f.log)
	if err != nil {
		return err
	}
	defer func() { _ = publisher.Close() }()
	for part := range slices.Chunk(posts, 1000) {
		messages := make([]*message.Message, len(part))
		for i, post := range part {
			messages[i], err = event.Encode(event.Event{ID: ids.Next(), Time: time.Now(), Source: "bench", Data: post})
			if err != nil {
				return err
			}
		}
		if err := publisher.PublishContext(ctx, event.Topic, messages...); err != nil {
			return err
		}
	}
	return nil
}

// measureCeiling lets redis-benchmark push as much into the same lists.
func (f *fanout) measureCeiling(ctx context.Context, posts []*pb.PhotoPosted) (deliveries int, rate float64, err error) {
	host, port, err := net.SplitHostPort(f.cfg.RedisAddr)
	if err != nil {
		return 0, 0, err
	}
	deliveries = f.audience(posts)
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-h", host, "-p", port, "--csv",
		"-P", "500", "-c", "4", "-n", strconv.Itoa(deliveries), "-r", strconv.Itoa(f.cfg.Users),
		"LPUSHX", "feed:{__rand_int__}", posts[0].GetPhoto().GetPostId()).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	rate, err = parseBenchmark(strings.NewReader(string(out)))
	return deliveries, rate, err
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
	deliveries = f.audience(posts)
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
			for _, follower := range f.graph.followers[author] {
				p.ZAddNX(ctx, zsetKey(int(follower)%f.cfg.SortedSets), member)
			}
			p.ZAddNX(ctx, zsetKey(author%f.cfg.SortedSets), member)
			_, err := p.Exec(ctx)
			return err
		})
	}
	err = g.Wait()
	return deliveries, float64(deliveries) / time.Since(start).Seconds(), err
}

// counter returns the value of a counter, 0 if there is none.
func counter(reg *prometheus.Registry, name string) float64 {
	families, err := reg.Gather()
	if err != nil {
		return 0
	}
	for _, family := range families {
		if family.GetName() == name && len(family.GetMetric()) > 0 {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// firstMessage is a subscriber that notes when its first message is taken.
type firstMessage struct {
	message.Subscriber

	mu   sync.Mutex
	time time.Time
}

func (s *firstMessage) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	go func() { // ends with the subscription
		defer close(out)
		msg, ok := <-in
		if !ok {
			return
		}
		s.mu.Lock()
		s.time = time.Now()
		s.mu.Unlock()
		out <- msg
		for msg := range in {
			out <- msg
		}
	}()
	return out, nil
}

func (s *firstMessage) at() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time
}
