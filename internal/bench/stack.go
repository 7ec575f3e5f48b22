package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/feed"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	pb "activityfeed/proto/activityfeed/v1"
)

// stack is a feed that consumes the log, as the server runs it.
type stack struct {
	feed    *feed.Feed
	metrics *prometheus.Registry
	first   *firstMessage
	ended   chan error
	stop    context.CancelFunc
	closers []func() error
}

// stackConfig says what a stack works with.
type stackConfig struct {
	brokers  []string
	redis    redis.UniversalClient
	inFlight int
	feed     feed.Config
}

// startStack runs a feed until its close.
func startStack(ctx context.Context, cfg stackConfig, log *slog.Logger) (_ *stack, err error) {
	s := &stack{metrics: prometheus.NewRegistry(), first: &firstMessage{}, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeAll())
		}
	}()
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: cfg.brokers}, log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, publisher.Close)
	subscribers := make([]message.Subscriber, 2)
	for i := range subscribers {
		subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: cfg.brokers, Group: "feed", MaxInFlight: cfg.inFlight,
		}, log, nil)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, subscriber.Close)
		subscribers[i] = subscriber
	}
	s.first.Subscriber = subscribers[0]
	s.feed, err = feed.New(cfg.feed, feed.Deps{
		Log: log, Redis: cfg.redis, Subscriber: s.first, RetrySubscriber: subscribers[1],
		Publisher: publisher, Metrics: s.metrics,
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.feed.Close)
	run, stop := context.WithCancel(ctx)
	s.stop = stop
	go func() { s.ended <- s.feed.Run(run) }()
	return s, nil
}

// close stops the feed, which finishes what it has in hand.
func (s *stack) close() error {
	s.stop()
	return errors.Join(<-s.ended, s.closeAll())
}

func (s *stack) closeAll() error {
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// counter returns the value of one of the feed's counters.
func (s *stack) counter(name string) float64 { return counter(s.metrics, name) }

// awaitPosts returns, when so many posts are done, the moment at which they were.
func (s *stack) awaitPosts(ctx context.Context, n int) (time.Time, error) {
	// A post every 10 ms is far below what any engine does.
	limit := time.NewTimer(time.Minute + time.Duration(n)*10*time.Millisecond)
	defer limit.Stop()
	// Asking costs 0.2 ms.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if int(s.counter("activityfeed_feed_posts_total")) >= n {
				return time.Now(), nil
			}
		case err := <-s.ended:
			s.ended <- err // close reads it too
			return time.Time{}, fmt.Errorf("the feed ended: %w", err)
		case <-limit.C:
			return time.Time{}, errors.New("the feed does not come to an end")
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// appendFacts puts facts on the topic activity, in their order.
func appendFacts[F proto.Message](ctx context.Context, brokers []string, facts []F, log *slog.Logger) error {
	ids, err := idSource()
	if err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		return err
	}
	defer func() { _ = publisher.Close() }()
	for part := range slices.Chunk(facts, 1000) {
		messages := make([]*message.Message, len(part))
		for i, fact := range part {
			messages[i], err = event.Encode(event.Event{ID: ids.Next(), Time: time.Now(), Source: "bench", Data: fact})
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

// newPost returns the n-th post, of the usual size.
func newPost(id event.ID, author string, n int) *pb.PhotoPosted {
	return &pb.PhotoPosted{Photo: &pb.Photo{
		PostId:     id.String(),
		AuthorId:   author,
		Media:      []*pb.Media{{Url: "https://img.example/photos/" + strconv.Itoa(n) + ".jpg", Width: 1080, Height: 1350, Blurhash: "LEHV6nWB2yk8pyo0adR*.7kCMdnj"}},
		Caption:    "a caption of the usual length, as people write below a photo",
		CreateTime: timestamppb.Now(),
	}}
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
