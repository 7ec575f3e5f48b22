package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/fault"
	"activityfeed/internal/record"
)

// PublisherConfig sets up a [Publisher].
type PublisherConfig struct {
	// Brokers are the addresses (host:port) to find the cluster through. Required.
	Brokers []string
	// ClientID names this client in the broker's logs. Default: "activityfeed".
	ClientID string
	// Timeout is how long a message may take to be in the log. Default 10 s.
	Timeout time.Duration

	// options are further options of the client; tests replace its network.
	options []kgo.Opt
}

// Publisher writes messages to the log. It is safe for concurrent use, and
// concurrent calls share requests. Writes are idempotent: what the client retries
// is in the log once.
type Publisher struct {
	client  *kgo.Client
	timeout time.Duration
	closing sync.Once

	// mu is held for reading while a call is under way, so that Close can wait.
	mu     sync.RWMutex
	closed bool
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher. It does not connect: an absent broker shows at
// the first Publish.
func NewPublisher(cfg PublisherConfig, log *slog.Logger) (*Publisher, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errNoBrokers
	}
	timeout := cmp.Or(cfg.Timeout, 10*time.Second)
	opts := append(baseOptions(cfg.Brokers, cmp.Or(cfg.ClientID, defaultClientID), log),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// No lingering: a lone caller waits for nobody, and under load requests fill
		// up by themselves while the one before is under way.
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(max(timeout, time.Second)), // less is not allowed
		kgo.ProduceRequestTimeout(max(timeout, time.Second)),
		// Without it a record that was sent once waits for its answer for ever, and
		// Publish with it. The price: after a timeout the record may or may not be in
		// the log, which is what a timeout means.
		kgo.AllowIdempotentProduceCancellation(),
	)
	client, err := kgo.NewClient(append(opts, cfg.options...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: make publisher: %w", err)
	}
	return &Publisher{client: client, timeout: timeout}, nil
}

// Publish writes the messages and returns when the log has them all (acks=all),
// or an error. It honours the publisher's own timeout alone, not the contexts of
// the messages: the context of a message being handled may be over when its
// outcome has to be written. After an error some of the messages may be in the
// log.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	return p.PublishContext(context.Background(), topic, messages...)
}

// PublishContext is Publish that stops waiting when ctx ends, too. The messages may
// still come to be in the log.
func (p *Publisher) PublishContext(ctx context.Context, topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return fault.Outage("publish to "+topic, errClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()

	written := make(chan error, len(messages))
	for _, msg := range messages {
		// Not with ctx: the client fails the records of other callers along with one
		// whose context ends.
		p.client.Produce(context.WithoutCancel(ctx), produced(topic, record.FromMessage(msg)),
			func(_ *kgo.Record, err error) { written <- err })
	}
	for range messages {
		select {
		case err := <-written:
			if err != nil {
				return publishError(topic, err)
			}
		case <-ctx.Done():
			return publishError(topic, ctx.Err())
		}
	}
	return nil
}

// Close writes what is under way and frees the publisher. It may be called more
// than once.
func (p *Publisher) Close() error {
	p.closing.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.client.Close()
	})
	return nil
}

func produced(topic string, r record.Record) *kgo.Record {
	headers := make([]kgo.RecordHeader, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
	return &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: headers}
}

// publishError tells a message that the log will never take from a log that does
// not answer.
func publishError(topic string, err error) error {
	op := "publish to " + topic
	if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidRecord) {
		return fault.Poison("unpublishable", fmt.Errorf("%s: %w", op, err))
	}
	return fault.Outage(op, err)
}
