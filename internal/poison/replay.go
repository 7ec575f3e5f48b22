package poison

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
)

// MaxReplays is how often an event may be sent back to its service, unless the
// person asks for more.
const MaxReplays = 5

// Options say how to replay or drop.
type Options struct {
	// DryRun only says what would be done.
	DryRun bool
	// Rate is at most how many letters a second; 0 means no limit. A service that
	// has just recovered may not like a thousand at once.
	Rate float64
	// MaxReplays refuses letters that were replayed so often. 0 means [MaxReplays].
	MaxReplays int
	// Progress is called after each letter, if it is not nil.
	Progress func(done, total int)
}

// Result says what was done, or would have been.
type Result struct {
	// Service is whose letters these are.
	Service string
	// Done are the letters that are gone, in the order of the work.
	Done []Entry
	// Refused were replayed too often. Drop refuses nothing.
	Refused []Entry
	// Others are the letters that were not chosen.
	Others []Entry
	// DryRun says that nothing was done in truth.
	DryRun bool
}

// Replay sends the chosen events back to the service, through its retry topic.
// After an error or the end of ctx the result tells how far it came; to call it
// again is safe.
func (t *Tool) Replay(ctx context.Context, service string, f Filter, opts Options) (Result, error) {
	limit := opts.MaxReplays
	if limit <= 0 {
		limit = MaxReplays
	}
	chosen, others, err := t.choose(ctx, service, f)
	if err != nil {
		return Result{}, err
	}
	result := Result{Service: service, Others: others, DryRun: opts.DryRun}
	var work []Entry
	for _, e := range chosen {
		if e.Replays >= limit {
			result.Refused = append(result.Refused, e)
		} else {
			work = append(work, e)
		}
	}
	result.Done, err = t.each(ctx, work, opts, func(e Entry) error {
		if err := t.publish(ctx, event.RetryTopic(service), e.Replay()); err != nil {
			return fmt.Errorf("replay %s: %w", e.ID, err)
		}
		t.log.Info("event replayed", "service", service, "event_id", e.ID, "reason", e.Reason, "replays", e.Replays+1)
		return t.bury(ctx, service, e)
	})
	return result, err
}

// Drop gives the chosen events up. A service that reads the log again from its beginning
// meets them again.
func (t *Tool) Drop(ctx context.Context, service string, f Filter, opts Options) (Result, error) {
	chosen, others, err := t.choose(ctx, service, f)
	if err != nil {
		return Result{}, err
	}
	result := Result{Service: service, Others: others, DryRun: opts.DryRun}
	result.Done, err = t.each(ctx, chosen, opts, func(e Entry) error {
		t.log.Info("event dropped", "service", service, "event_id", e.ID, "reason", e.Reason)
		return t.bury(ctx, service, e)
	})
	return result, err
}

// bury ends all generations of a letter.
func (t *Tool) bury(ctx context.Context, service string, e Entry) error {
	tombstones := make([]*message.Message, len(e.generations))
	for i, l := range e.generations {
		tombstones[i] = l.Tombstone()
	}
	if err := t.publish(ctx, event.PoisonTopic(service), tombstones...); err != nil {
		return fmt.Errorf("end letter %s: %w", e.ID, err)
	}
	return nil
}

func (t *Tool) publish(ctx context.Context, topic string, messages ...*message.Message) error {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.PublishTimeout)
	defer cancel()
	return t.pub.PublishContext(ctx, topic, messages...)
}

// each does the work at the asked rate and returns what is done.
func (t *Tool) each(ctx context.Context, entries []Entry, opts Options, do func(Entry) error) ([]Entry, error) {
	if opts.DryRun {
		return entries, nil
	}
	var gap time.Duration
	if opts.Rate > 0 {
		gap = time.Duration(float64(time.Second) / opts.Rate)
	}
	due := time.Now()
	for i, e := range entries {
		if err := sleepUntil(ctx, due); err != nil {
			return entries[:i], err
		}
		if err := do(e); err != nil {
			return entries[:i], err
		}
		due = due.Add(gap)
		if opts.Progress != nil {
			opts.Progress(i+1, len(entries))
		}
	}
	return entries, nil
}

func sleepUntil(ctx context.Context, due time.Time) error {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
