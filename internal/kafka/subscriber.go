package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/fault"
)

// adminTimeout bounds the questions asked of the cluster during a subscription.
const adminTimeout = 30 * time.Second

// Subscriber reads topics with a window of messages in flight; the package
// comment says what it promises.
//
// Its messages' contexts come from the context given to Subscribe, without its
// cancellation: when that ends, the messages in flight have the time of
// SubscriberConfig.Drain to settle. A message's context ends when the message is
// settled, and with the cause ErrRevoked, ErrReset or ErrClosing when it no longer
// matters whether it is. record.OriginOf tells where a message came from and how
// often it was delivered.
type Subscriber struct {
	cfg     SubscriberConfig
	log     *slog.Logger
	metrics *metrics

	mu            sync.Mutex
	closed        bool
	subscriptions map[*subscription]struct{}
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber returns a Subscriber. It does not connect. Its metrics are
// registered with reg; several subscribers may share one. A nil reg means none.
func NewSubscriber(cfg SubscriberConfig, log *slog.Logger, reg prometheus.Registerer) (*Subscriber, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("kafka: register metrics: %w", err)
	}
	return &Subscriber{
		cfg:           cfg.withDefaults(),
		log:           log,
		metrics:       m,
		subscriptions: make(map[*subscription]struct{}),
	}, nil
}

// Subscribe reads a topic until ctx ends or the Subscriber is closed; the channel
// is closed when all messages have settled or the time to drain is over. Each call
// is a member of the group of its own. An absent broker is no error: records come
// when it does. Only StartNewest without a group asks the broker first.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	sub := newSubscription(ctx, s.cfg, topic, s.log, s.metrics)
	if err := sub.connect(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		sub.client.Close()
		return nil, errClosed
	}
	s.subscriptions[sub] = struct{}{}
	go func() { // sub has the context, and outlives it to drain
		defer close(sub.done)
		sub.run()
		s.mu.Lock()
		delete(s.subscriptions, sub)
		s.mu.Unlock()
	}()
	return sub.out, nil
}

// SubscribeInitialize makes the topic if it does not exist.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	client, err := kgo.NewClient(baseOptions(s.cfg.Brokers, s.cfg.ClientID, s.log)...)
	if err != nil {
		return fmt.Errorf("kafka: make topic %s: %w", topic, err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	err = ensureTopic(ctx, kadm.NewClient(client), topic, TopicConfig{Partitions: s.cfg.Partitions})
	return fault.Outage("make topic "+topic, err)
}

// Close ends all subscriptions and returns when their channels are closed. It may
// be called more than once, and concurrently.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	var open []*subscription
	for sub := range s.subscriptions {
		open = append(open, sub)
	}
	s.mu.Unlock()
	for _, sub := range open {
		sub.close()
	}
	for _, sub := range open {
		<-sub.done
	}
	return nil
}

// consumeSince makes a client without a group read what was written to the topic
// at or after a moment, by the brokers' clock, and returns the offsets at which
// that begins. The zero time means what is written from now on.
func consumeSince(ctx context.Context, client *kgo.Client, topic string, since time.Time) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	adm := kadm.NewClient(client)
	var listed kadm.ListedOffsets
	var err error
	if since.IsZero() {
		listed, err = adm.ListEndOffsets(ctx, topic)
	} else {
		listed, err = adm.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topic)
	}
	begin, err := offsets(listed, err)
	if err == nil && len(begin) == 0 {
		err = errors.New("the topic has no partitions")
	}
	if err != nil {
		return nil, fault.Outage("offsets to begin with in "+topic, err)
	}
	starts := make(map[int32]kgo.Offset, len(begin))
	for partition, offset := range begin {
		starts[partition] = kgo.NewOffset().At(offset)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts})
	return begin, nil
}
