package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"activityfeed/feed"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load/longrun"
)

const (
	// VisibleTarget is how many times as long as the broker alone a post may take to
	// a follower's feed, see the targets in ARCHITECTURE.md.
	VisibleTarget = 3

	visibleTopic = "bench-visible"
	// visibleSample is of how many posts one is looked for: looking costs too.
	visibleSample = 8
	// warmUpPosts are pushed before anything is measured.
	warmUpPosts = 50
)

// VisibleConfig says what [Visible] measures and where.
type VisibleConfig struct {
	// Brokers are those of an empty log. Required.
	Brokers []string
	// RedisAddr is an empty Redis, host:port. Required.
	RedisAddr string
	// Users is how many users there are, each with a full feed. Default 10,000.
	Users int
	// Audience is how many followers a post has on average. Default 150.
	Audience int
	// Full is how many posts are pushed in a round to find out the full load. Default 5,000.
	Full int
	// Period is how long each is measured in a round. Default 5 s.
	Period time.Duration
	// Rounds is how often everything is measured; medians count. Default 5.
	Rounds int
}

func (c VisibleConfig) withDefaults() VisibleConfig {
	c.Users = cmp.Or(c.Users, 10_000)
	c.Audience = cmp.Or(c.Audience, 150)
	c.Full = cmp.Or(c.Full, 5_000)
	c.Period = cmp.Or(c.Period, 5*time.Second)
	c.Rounds = cmp.Or(c.Rounds, 5)
	return c
}

// Visible measures the time from the moment at which a post is handed to the
// producer until it stands in the feed of one of its followers, at half the load
// that the fan-out can bear; beside it, in turns, the time to a consumer that does
// nothing, of the same messages at the same rate. What the fan-out can bear is found
// out anew in each round: what the machine is busy with besides moves all three. It
// writes a table to w.
func Visible(ctx context.Context, w io.Writer, cfg VisibleConfig, log *slog.Logger) (Result, error) {
	cfg = cfg.withDefaults()
	client := newRedis(cfg.RedisAddr)
	defer func() { _ = client.Close() }()
	if err := checkEmpty(ctx, cfg.Brokers, client); err != nil {
		return Result{}, fmt.Errorf("bench visible: %w", err)
	}
	v := &visible{cfg: cfg, log: log, people: &population{
		redis: client, users: cfg.Users, entries: 800, graph: newPowerLaw(cfg.Users, cfg.Audience),
	}}
	if err := v.run(ctx); err != nil {
		return Result{}, fmt.Errorf("bench visible: %w", err)
	}
	t := newTable(w, fmt.Sprintf("%s posts/s to %d followers each, half of what the fan-out bears, medians of %d rounds",
		longrun.Count(int64(median(v.rates))), cfg.Audience, cfg.Rounds), "", "p50", "p99")
	for _, r := range []struct {
		what string
		took *latencies
	}{{"producer to a follower's feed", &v.ours}, {"producer to consumer, the broker alone", &v.broker}} {
		t.AppendRow([]any{r.what, r.took.median(50).Round(10 * time.Microsecond), r.took.median(99).Round(10 * time.Microsecond)})
	}
	t.Render()
	return Result{Name: "visible", Ratio: medianRatio(v.ours.percentiles(99), v.broker.percentiles(99)), Target: VisibleTarget}, nil
}

// visible is a measurement under way.
type visible struct {
	cfg    VisibleConfig
	log    *slog.Logger
	people *population
	// rates are posts a second, of the rounds; rate is that of the round under way.
	rates        []float64
	rate         float64
	ours, broker latencies
}

// latencies are those of some rounds.
type latencies struct {
	mu     sync.Mutex
	round  []time.Duration
	rounds [][]time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round = append(l.round, d)
}

// next ends a round.
func (l *latencies) next() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.round) == 0 {
		return errors.New("nothing was measured")
	}
	slices.Sort(l.round)
	l.rounds, l.round = append(l.rounds, l.round), nil
	return nil
}

// percentiles returns a percentile of each round.
func (l *latencies) percentiles(percent int) []float64 {
	values := make([]float64, len(l.rounds))
	for i, round := range l.rounds {
		values[i] = float64(round[len(round)*percent/100])
	}
	return values
}

// median returns the median of a percentile of the rounds.
func (l *latencies) median(percent int) time.Duration {
	return time.Duration(median(l.percentiles(percent)))
}

func (v *visible) run(ctx context.Context) error {
	v.log.Info("bench visible: fill the feeds")
	if err := v.people.fill(ctx); err != nil {
		return err
	}
	if err := v.makeTopic(ctx); err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: v.cfg.Brokers}, v.log)
	if err != nil {
		return err
	}
	defer func() { _ = publisher.Close() }()
	for round := range v.cfg.Rounds {
		v.log.Info("bench visible: measure", "round", round+1, "of", v.cfg.Rounds)
		if err := v.round(ctx, publisher); err != nil {
			return err
		}
	}
	return nil
}

// round finds out the full load, then measures both at half of it.
func (v *visible) round(ctx context.Context, publisher *kafka.Publisher) error {
	posts, err := v.people.drawPosts(v.cfg.Full)
	if err != nil {
		return err
	}
	full, err := v.people.push(ctx, v.cfg.Brokers, 256, posts, v.log)
	if err != nil {
		return err
	}
	v.rate = full.rate * float64(len(posts)) / float64(full.deliveries) / 2
	v.rates = append(v.rates, v.rate)
	if err := v.measureBroker(ctx, publisher); err != nil {
		return err
	}
	if err := v.measureOurs(ctx, publisher); err != nil {
		return err
	}
	return errors.Join(v.broker.next(), v.ours.next(), v.people.trim(ctx))
}

func (v *visible) makeTopic(ctx context.Context) error {
	admin, err := kafka.NewAdmin(v.cfg.Brokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{visibleTopic: {Partitions: 8}})
}

// publish hands out new posts at the rate for a period, each from a goroutine of
// its own: a slow answer must not slow down those behind it. sent is called right
// before.
func (v *visible) publish(ctx context.Context, publisher *kafka.Publisher, topic string, sent func(n int, id event.ID, author string)) (posts int, err error) {
	ids, err := idSource()
	if err != nil {
		return 0, err
	}
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for ; time.Since(start) < v.cfg.Period; posts++ {
		n := posts
		due := start.Add(time.Duration(float64(n) / v.rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		id, author := ids.Next(), userName(v.people.graph.author())
		g.Go(func() error {
			msg, err := event.Encode(event.Event{ID: id, Time: time.Now(), Source: "bench", Data: newPost(id, author, n)})
			if err != nil {
				return err
			}
			sent(n, id, author)
			return publisher.PublishContext(ctx, topic, msg)
		})
	}
	return posts, g.Wait()
}

// measureBroker takes the time to a consumer that does nothing.
func (v *visible) measureBroker(ctx context.Context, publisher *kafka.Publisher) error {
	var sent sync.Map // message UUID to the time
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tail := kafka.NewTail(kafka.TailConfig{Brokers: v.cfg.Brokers, Topic: visibleTopic, From: kafka.StartNewest}, v.log)
	ended := make(chan error, 1)
	go func() {
		ended <- tail.Run(ctx, func(msg *message.Message) error {
			if at, ok := sent.Load(msg.UUID); ok {
				v.broker.add(time.Since(at.(time.Time))) //nolint:forcetypeassert // nothing else is in it
			}
			return nil
		})
	}()
	if err := tail.CaughtUp(ctx); err != nil {
		return err
	}
	_, err := v.publish(ctx, publisher, visibleTopic, func(_ int, id event.ID, _ string) { sent.Store(id.String(), time.Now()) })
	if err == nil {
		err = tail.CaughtUp(ctx)
	}
	cancel()
	return errors.Join(err, <-ended)
}

// measureOurs takes the time to the feed of a follower who is drawn.
func (v *visible) measureOurs(ctx context.Context, publisher *kafka.Publisher) (err error) {
	s, err := startStack(ctx, stackConfig{brokers: v.cfg.Brokers, redis: v.people.redis, inFlight: 256, feed: feed.Config{Cap: v.people.entries}}, v.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	// The first posts find a consumer that is yet joining its group.
	if err := v.warmUp(ctx, s); err != nil {
		return err
	}
	look := newLookout(ctx, v.people.redis, v.ours.add)
	posts, err := v.publish(ctx, publisher, event.Topic, func(n int, id event.ID, author string) {
		if n%visibleSample == 0 {
			look.expect(v.follower(author), id)
		}
	})
	if err := errors.Join(err, look.close()); err != nil {
		return err
	}
	// The next round must find nothing of this one.
	_, err = s.awaitPosts(ctx, warmUpPosts+posts)
	return err
}

// warmUp returns when the feed works off what comes.
func (v *visible) warmUp(ctx context.Context, s *stack) error {
	posts, err := v.people.drawPosts(warmUpPosts)
	if err != nil {
		return err
	}
	if err := appendFacts(ctx, v.cfg.Brokers, posts, v.log); err != nil {
		return err
	}
	_, err = s.awaitPosts(ctx, len(posts))
	return err
}

// follower draws one of an author's followers.
func (v *visible) follower(author string) int {
	var n int
	_, _ = fmt.Sscanf(author, "%d", &n) // userName made it
	followers := v.people.graph.followers[n]
	return int(followers[rand.IntN(len(followers))])
}
