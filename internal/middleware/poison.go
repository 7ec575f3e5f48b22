package middleware

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	facts "activityfeed/internal/delivery"
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
	// Reports takes the fact that something went to poison; nil means nobody asks.
	Reports *facts.Reporter
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
		// Made when it is asked for: of a batch it is a hash of all that is in it, and
		// took 4 % of the time of a row on its way to ClickHouse.
		id := func() string { return letterID(msg, origin) }
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
		strikes, healthy := p.suspects.failed(id(), reason == reasonOutage)
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

// succeeded notes an acked message. Poison earns no budget.
func (p *Poison) succeeded(id func() string, origin record.Origin, poisoned bool) {
	if poisoned {
		p.suspects.forget(id())
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
