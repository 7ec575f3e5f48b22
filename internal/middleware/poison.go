package middleware

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
)

// withholdLogEvery is the shortest time between two log lines of withheld poison.
const withholdLogEvery = 10 * time.Second

// PoisonConfig says whose poison it is and when a message is suspected.
type PoisonConfig struct {
	// Service names the topic `<service>.poison` and the label of the metrics.
	Service string
	// MaxAttempts is how many deliveries of a message must fail, while others
	// succeed, before it is given up. 0 means 8.
	MaxAttempts int
	// Timeout bounds the publishing of letters. 0 means 10 s.
	Timeout time.Duration
	// Batch says that a message carries many records (see record.Batch); each
	// becomes a letter of its own, so that each can be replayed.
	Batch bool
}

// Poison takes messages out of a service's way that it can never process, and
// only those. Shared by all handlers of a service; safe for concurrent use.
type Poison struct {
	cfg     PoisonConfig
	topic   string
	pub     message.Publisher
	log     *slog.Logger
	metrics metrics
	closing atomic.Bool
	// withheldAt is when withhold logged last, in Unix nanoseconds.
	withheldAt atomic.Int64

	suspects *suspects
	// certain is spent by [Poison.Permanent]: half of all messages may be
	// undecodable for ever, but a service that finds every message undecodable is
	// itself the one that is broken.
	certain *budget
	// suspected is spent by [Poison.Suspected]: at most 2 % of what succeeds, the
	// complement of healthyShare, or one message in five minutes.
	suspected *budget
}

// NewPoison returns the poison policy of a service. pub must not answer before
// the log has the letter. A nil reg means no metrics.
func NewPoison(cfg PoisonConfig, pub message.Publisher, log *slog.Logger, reg prometheus.Registerer) *Poison {
	cfg.MaxAttempts = cmp.Or(cfg.MaxAttempts, 8)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	return &Poison{
		cfg:       cfg,
		topic:     event.PoisonTopic(cfg.Service),
		pub:       pub,
		log:       log,
		metrics:   newMetrics(reg, cfg.Service),
		suspects:  newSuspects(),
		certain:   newBudget(100, 1, time.Minute),
		suspected: newBudget(10, 1-healthyShare, 5*time.Minute),
	}
}

// Close ends poisoning: from now on a failure is nacked, whatever it is, because
// a process that shuts down fails in ways that say nothing about the message.
// Call it before the router closes. Letters on their way are not interrupted.
func (p *Poison) Close() { p.closing.Store(true) }

// Suspected belongs outermost. What every layer below could not settle is nacked,
// and poisoned only when the message failed MaxAttempts times (record.Origin's
// Attempt) while 98 % of its neighbours succeed and the budget has a token: a
// service that fails everything has an outage. Outages and cancellations are
// never counted against a message.
func (p *Poison) Suspected(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		origin := record.OriginOf(ctx)
		id := letterID(msg, origin)
		if origin.Attempt > 1 {
			p.metrics.count(p.metrics.retried, "redelivery")
		}
		d := &delivery{}
		msg.SetContext(context.WithValue(ctx, deliveryKey{}, d))
		produced, err := h(msg)
		msg.SetContext(ctx)

		if err == nil {
			p.succeeded(id, origin, d.poisoned)
			return produced, nil
		}
		reason, _ := classify(ctx, err)
		p.metrics.count(p.metrics.failed, reason)
		if reason == reasonCancelled || p.closing.Load() {
			return nil, err
		}
		strikes, healthy := p.suspects.failed(id, reason == reasonOutage)
		if reason == reasonOutage || origin.Attempt < p.cfg.MaxAttempts || strikes < p.cfg.MaxAttempts {
			return nil, err
		}
		if !healthy {
			p.withhold(msg, origin, "neighbours", err)
			return nil, err
		}
		if !p.suspected.take() {
			p.withhold(msg, origin, "budget", err)
			return nil, err
		}
		if err := p.bury(ctx, msg, origin, ReasonExhausted, err); err != nil {
			p.suspected.refund()
			return nil, err
		}
		p.succeeded(id, origin, true)
		return nil, nil
	}
}

// Permanent belongs innermost but for the recoverer. Faults of kind Permanent and
// panics go to poison at once and are acked, so that they are neither retried nor
// seen by the breaker.
func (p *Poison) Permanent(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		d := deliveryOf(ctx)
		d.buried = false
		if d.calls++; d.calls > 1 {
			p.metrics.count(p.metrics.retried, "retry")
		}
		produced, err := h(msg)
		if err == nil {
			return produced, nil
		}
		reason, permanent := classify(ctx, err)
		if !permanent || p.closing.Load() {
			return nil, err
		}
		// Whatever comes now is between the log and us.
		d.buried = true
		origin := record.OriginOf(ctx)
		if !p.certain.take() {
			p.withhold(msg, origin, "budget", err)
			return nil, fault.Outage(p.topic+": budget is empty", err)
		}
		if err := p.bury(ctx, msg, origin, reason, err); err != nil {
			p.certain.refund()
			return nil, err
		}
		d.poisoned = true
		return nil, nil
	}
}

// Publish poisons one message on behalf of a sink that found it inside a batch:
// msg is the single record's message, with its own origin in its context (see
// [Poison.PublishRecord], which sees to that). It returns when the log has the
// letter; after an error, also while closing, the batch must be nacked. No budget
// applies: the sink has seen the rest of the batch and answers for the verdict.
func (p *Poison) Publish(ctx context.Context, msg *message.Message, reason string, cause error) error {
	origin := record.OriginOf(msg.Context())
	if origin.Topic == "" {
		origin = record.OriginOf(ctx)
	}
	if p.closing.Load() {
		return fault.Outage(p.topic+": closing", cause)
	}
	return p.send(ctx, []Letter{p.letter(msg, origin, reason, cause)})
}

// PublishRecord is [Poison.Publish] for one record of the batch whose context ctx
// is.
func (p *Poison) PublishRecord(ctx context.Context, r record.Record, reason string, cause error) error {
	msg := r.Message()
	msg.SetContext(record.WithOrigin(ctx, originIn(record.OriginOf(ctx), r)))
	return p.Publish(ctx, msg, reason, cause)
}

// succeeded notes an acked message. Poison earns no budget.
func (p *Poison) succeeded(id string, origin record.Origin, poisoned bool) {
	if poisoned {
		p.suspects.forget(id)
		p.metrics.count(p.metrics.handled, "poisoned")
		return
	}
	n := int64(1)
	if p.cfg.Batch {
		n = max(1, origin.LastOffset-origin.Offset+1)
	}
	p.suspects.succeeded(id, n)
	p.certain.credit(n)
	p.suspected.credit(n)
	p.metrics.count(p.metrics.handled, "processed")
}

// withhold says that a message looks like poison and is kept all the same. When
// it happens it happens to every message: one line in 10 s is enough.
func (p *Poison) withhold(msg *message.Message, origin record.Origin, why string, cause error) {
	p.metrics.count(p.metrics.withheld, why)
	now, last := time.Now().UnixNano(), p.withheldAt.Load()
	if now-last < int64(withholdLogEvery) || !p.withheldAt.CompareAndSwap(last, now) {
		return
	}
	p.log.Error("message looks like poison but is kept: the service itself may be broken",
		append(p.attrs(p.letter(msg, origin, "", cause)), "why", why)...)
}

// bury publishes the letters of a message.
func (p *Poison) bury(ctx context.Context, msg *message.Message, origin record.Origin, reason string, cause error) error {
	var letters []Letter
	if p.cfg.Batch {
		for r, err := range record.Batch(msg.Payload) {
			if err != nil {
				return fmt.Errorf("poison batch %s: %w", origin, err)
			}
			letters = append(letters, p.letter(r.Message(), originIn(origin, r), reason, cause))
		}
	} else {
		letters = []Letter{p.letter(msg, origin, reason, cause)}
	}
	return p.send(ctx, letters)
}

func (p *Poison) letter(msg *message.Message, origin record.Origin, reason string, cause error) Letter {
	l := NewLetter(msg, origin)
	l.Service, l.Reason = p.cfg.Service, reason
	l.Error = Clean(cause.Error(), MaxLetterError)
	if l.FirstFailure.IsZero() {
		l.FirstFailure = p.suspects.firstFailure(l.ID)
	}
	return l
}

// send returns when the log has the letters. The message's own context may be
// over by now, or end with a shutdown that waits for us: it does not count here.
func (p *Poison) send(ctx context.Context, letters []Letter) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Timeout)
	defer cancel()
	messages := make([]*message.Message, len(letters))
	for i, l := range letters {
		messages[i] = l.Message()
		messages[i].SetContext(ctx)
	}
	if err := publish(ctx, p.pub, p.topic, messages); err != nil {
		return fault.Outage("publish to "+p.topic, err)
	}
	for _, l := range letters {
		p.metrics.count(p.metrics.poisoned, l.Reason)
		p.log.Warn("message poisoned", append(p.attrs(l), "reason", l.Reason)...)
	}
	return nil
}

func (p *Poison) attrs(l Letter) []any {
	return []any{
		"service", p.cfg.Service, "event_id", l.ID, "event_type", Clean(l.Original.Metadata.Get("ce_type"), 128),
		"topic", l.Origin.Topic, "partition", l.Origin.Partition, "offset", l.Origin.Offset,
		"attempt", l.Origin.Attempt, "err", l.Error,
	}
}

// publish gives the publisher our deadline where it can take one.
func publish(ctx context.Context, pub message.Publisher, topic string, messages []*message.Message) error {
	type contextPublisher interface {
		PublishContext(ctx context.Context, topic string, messages ...*message.Message) error
	}
	if p, ok := pub.(contextPublisher); ok {
		return p.PublishContext(ctx, topic, messages...)
	}
	return pub.Publish(topic, messages...)
}

// originIn returns where a record of a batch lies.
func originIn(batch record.Origin, r record.Record) record.Origin {
	batch.Offset, batch.LastOffset, batch.Time = r.Offset, r.Offset, r.Time
	return batch
}

// delivery is what the layers of one delivery tell each other.
type delivery struct {
	// calls counts the tries of the handler.
	calls int
	// buried says that the last outcome is that of poisoning, not the handler's.
	buried bool
	// poisoned says that the message is durable in the poison topic.
	poisoned bool
}

type deliveryKey struct{}

func deliveryOf(ctx context.Context) *delivery {
	if d, ok := ctx.Value(deliveryKey{}).(*delivery); ok {
		return d
	}
	return &delivery{}
}
