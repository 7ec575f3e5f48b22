package kafka_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// Watermill's own suite, in the ways that differ for a log with keys. It runs in
// full; `go test -short` makes it smaller.
func TestConformance(t *testing.T) {
	t.Parallel()
	group := tests.Features{ConsumerGroups: true, Persistent: true}
	ordered := tests.Features{ConsumerGroups: true, Persistent: true, GuaranteedOrder: true}
	for _, tt := range []struct {
		name     string
		key      func(*message.Message) string // nil: no keys
		features tests.Features
		noGroup  bool
	}{
		{name: "no keys", features: group},
		{name: "one key", features: ordered, key: func(*message.Message) string { return "" }},
		{name: "key is payload", features: ordered, key: func(m *message.Message) string { return string(m.Payload) }},
		{name: "no group", features: tests.Features{Persistent: true, NewSubscriberReceivesOldMessages: true}, noGroup: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			brokers := newCluster(t).brokers
			inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
				return pubSub(t, brokers, group, tt.key)
			}
			tests.TestPubSub(t, tt.features, func(t *testing.T) (message.Publisher, message.Subscriber) {
				if tt.noGroup {
					return inGroup(t, "")
				}
				// A group for each test: in one group for all, every join would stop
				// every test.
				return inGroup(t, t.Name())
			}, inGroup)
		})
	}
}

// The same suite's test of a broker that is killed twice, against kfake in a
// process of its own.
func TestReconnect(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute; run without -short")
	}
	child := startBroker(t)
	features := tests.Features{
		ConsumerGroups:        true,
		Persistent:            true,
		RestartServiceCommand: []string{"sh", "-c", "kill -9 $(cat " + child.pidFile + ")"},
	}
	tests.TestReconnect(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			pub, sub := pubSub(t, child.brokers, t.Name(), nil)
			return pub, late{sub}
		})
	if child.starts.Load() != 3 {
		t.Errorf("the broker was started %d times, want 3", child.starts.Load())
	}
}

// late hands messages on a little later. The suite's test compares what it read
// with what it wrote, and notes what it wrote only after Publish has returned: a
// message that is read at once is at times one too many.
type late struct{ *kafka.Subscriber }

func (l late) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := l.Subscriber.Subscribe(ctx, topic)
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		var forwards sync.WaitGroup
		defer forwards.Wait()
		for msg := range in {
			forwards.Go(func() {
				sleep(msg.Context(), 200*time.Millisecond)
				select {
				case out <- msg:
				case <-msg.Context().Done():
				}
			})
		}
	}()
	return out, err
}

func pubSub(t *testing.T, brokers []string, group string, key func(*message.Message) string) (message.Publisher, *kafka.Subscriber) {
	t.Helper()
	// The suite leaves some subscribers open, which may outlive the test's own log.
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	cfg := kafka.SubscriberConfig{
		Brokers:        brokers,
		Group:          group,
		NackBackoff:    10 * time.Millisecond,
		MaxNackBackoff: 50 * time.Millisecond,
		Drain:          3 * time.Second,
		Session:        20 * time.Second,
		Heartbeat:      500 * time.Millisecond,
		Rebalance:      5 * time.Second,
		CommitInterval: 200 * time.Millisecond,
		Partitions:     8,
	}
	if group == "" {
		// Fifty subscribers that read everything are closed one after the other, with
		// messages in flight that nobody will settle.
		cfg.Drain = 50 * time.Millisecond
	}
	sub, err := kafka.NewSubscriber(cfg, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keyed{pub, key}, sub
}

// keyed gives each message a key.
type keyed struct {
	message.Publisher

	key func(*message.Message) string
}

func (k keyed) Publish(topic string, msgs ...*message.Message) error {
	if k.key == nil {
		return k.Publisher.Publish(topic, msgs...)
	}
	copies := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		copies[i] = msg.Copy()
		copies[i].Metadata.Set(record.KeyMetadata, k.key(msg))
	}
	return k.Publisher.Publish(topic, copies...)
}
