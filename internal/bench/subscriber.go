package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

const (
	// SubscriberTarget is how many times as many messages as watermill-kafka the
	// subscriber must hand out, see the targets in ARCHITECTURE.md.
	SubscriberTarget = 10

	subscriberTopic = "bench-subscriber"
	// subscriberPartitions is what both read: watermill-kafka has one message of
	// each under way at a time.
	subscriberPartitions = 8
	subscriberKeys       = 10_000
	subscriberMessages   = 100_000
	// theirMessages is less, so that both take seconds.
	theirMessages    = 10_000
	subscriberRounds = 3
	// handlerTime is what a handler takes that asks a store on the same network.
	handlerTime = time.Millisecond
	// saramaOldest is sarama.OffsetOldest.
	saramaOldest = -2
)

// Subscriber measures how many messages a second a Watermill router handles whose
// handlers take a millisecond: with our subscriber, and with watermill-kafka v3 on
// the same topic of the same brokers, in turns. It writes a table to w.
func Subscriber(ctx context.Context, w io.Writer, brokers []string, log *slog.Logger) (Result, error) {
	if err := fillTopic(ctx, brokers, log); err != nil {
		return Result{}, fmt.Errorf("bench subscriber: fill the topic: %w", err)
	}
	var ours, theirs []float64
	for round := range subscriberRounds {
		log.Info("bench subscriber: measure", "round", round+1, "of", subscriberRounds)
		our, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: brokers, Group: fmt.Sprintf("bench-ours-%d", round), MaxInFlight: 1024,
		}, log, nil)
		if err != nil {
			return Result{}, err
		}
		rate, err := handleRate(ctx, our, subscriberMessages)
		if err != nil {
			return Result{}, fmt.Errorf("bench subscriber: ours: %w", err)
		}
		ours = append(ours, rate)

		sarama := wmkafka.DefaultSaramaSubscriberConfig()
		sarama.Consumer.Offsets.Initial = saramaOldest
		their, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
			Brokers: brokers, ConsumerGroup: fmt.Sprintf("bench-theirs-%d", round), OverwriteSaramaConfig: sarama,
		}, watermill.NopLogger{})
		if err != nil {
			return Result{}, err
		}
		if rate, err = handleRate(ctx, their, theirMessages); err != nil {
			return Result{}, fmt.Errorf("bench subscriber: watermill-kafka: %w", err)
		}
		theirs = append(theirs, rate)
	}
	writeTable(w, fmt.Sprintf("%d partitions, %d keys, handlers of %s, medians of %d rounds", subscriberPartitions, subscriberKeys, handlerTime, subscriberRounds),
		"messages/s", []row{
			{"activityfeed", median(ours), "1,024 in flight, one at a time per key"},
			{"watermill-kafka v3", median(theirs), "one at a time per partition"},
		})
	return Result{Name: "subscriber", Ratio: medianRatio(ours, theirs), Target: SubscriberTarget}, nil
}

func fillTopic(ctx context.Context, brokers []string, log *slog.Logger) error {
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{subscriberTopic: {Partitions: subscriberPartitions}}); err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		return err
	}
	defer publisher.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	const part = 1000
	for first := 0; first < subscriberMessages; first += part {
		group.Go(func() error {
			messages := make([]*message.Message, part)
			for i := range messages {
				n := first + i
				messages[i] = message.NewMessage(strconv.Itoa(n), make([]byte, 200))
				messages[i].Metadata.Set(record.KeyMetadata, strconv.Itoa(n%subscriberKeys))
			}
			return publisher.PublishContext(ctx, subscriberTopic, messages...)
		})
	}
	return group.Wait()
}

// handleRate runs a router on the subscriber until n messages are handled, and
// returns how many a second that was, from the first one on: joining the group is
// not what is measured.
func handleRate(ctx context.Context, subscriber message.Subscriber, n int64) (float64, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return 0, err
	}
	var handled, first, last atomic.Int64
	enough := make(chan struct{})
	start := time.Now()
	router.AddConsumerHandler("bench", subscriberTopic, subscriber, func(*message.Message) error {
		first.CompareAndSwap(0, int64(time.Since(start)))
		time.Sleep(handlerTime)
		if handled.Add(1) == n {
			last.Store(int64(time.Since(start)))
			close(enough)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	<-router.Running()
	select {
	case <-enough:
	case <-ctx.Done():
		err = fmt.Errorf("%d of %d messages handled: %w", handled.Load(), n, ctx.Err())
	}
	if err := errors.Join(err, router.Close(), <-ended); err != nil {
		return 0, err
	}
	return float64(n) / time.Duration(last.Load()-first.Load()).Seconds(), nil
}
