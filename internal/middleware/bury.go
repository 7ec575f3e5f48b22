package middleware

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	facts "activityfeed/internal/delivery"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
)

// Publish poisons one message on behalf of a sink that found it inside a batch:
// msg is the single record's message, with its own origin in its context (see
// [Poison.PublishRecord], which sees to that). It returns when the log has the
// letter; after an error, also while closing, the batch must be nacked. No budget
// applies: the sink has seen the rest of the batch and answers for the verdict.
func (p *Poison) Publish(ctx context.Context, msg *message.Message, reason string, cause error) error {
	origin := record.OriginOf(msg.Context()) // asked where the record lies, not when to stop
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
		p.cfg.Reports.Report(facts.Poisoned(p.cfg.Service, l.Reason, l.Original.Metadata.Get("ce_type"), l.Origin, time.Now()))
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
