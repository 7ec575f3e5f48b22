package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/load/longrun"
)

// pollInterval is how often progress is looked at.
const pollInterval = 200 * time.Millisecond

// apply takes one record of the log.
func (a *auditor) apply(msg *message.Message) error {
	e, err := event.Decode(msg)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.records++
	a.take(e, err)
	return nil
}

// history takes what the log has forgotten. What the log has too comes again, in order
// up to the log's end, and so changes nothing.
func (a *auditor) history(ctx context.Context) error {
	if a.deps.History == nil {
		return nil
	}
	return a.deps.History(ctx, func(e event.Event, err error) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tally.stored++
		if err != nil && e.Data != nil { // a post whose content was not kept
			a.tally.lost++
			a.tally.add(e)
			return nil
		}
		a.take(e, err)
		return nil
	})
}

// take takes a fact, or why it cannot be read, under the lock.
func (a *auditor) take(e event.Event, err error) {
	if errors.Is(err, event.ErrUnknownType) {
		a.tally.unknown++
		return
	}
	if err == nil {
		err = a.model.Apply(e)
	}
	if err != nil {
		a.tally.bad++
		return
	}
	a.tally.add(e)
}

// replay waits until the model has what the log has.
func (a *auditor) replay(ctx context.Context) error {
	bar := longrun.StartBar(a.progress, longrun.BarConfig{Title: "replay", Terminal: a.cfg.Terminal, Interval: a.cfg.ProgressInterval})
	defer bar.Stop()
	return a.watch(ctx, bar.Set)
}

// catchUp returns when the model has what the log has.
func (a *auditor) catchUp(ctx context.Context) error { return a.watch(ctx, func(int64) {}) }

// watch catches up, tells how many records were taken so far, and ends the wait
// when no more come for as long as patience lasts.
func (a *auditor) watch(ctx context.Context, tell func(records int64)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	var waiting sync.WaitGroup
	waiting.Go(func() { done <- a.caughtUp(ctx) })
	defer waiting.Wait()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for last, progress := int64(-1), time.Now(); ; {
		select {
		case err := <-done:
			tell(a.applied())
			return err
		case now := <-ticker.C:
			records := a.applied()
			tell(records)
			if records != last {
				last, progress = records, now
			} else if now.Sub(progress) >= a.cfg.Patience {
				stop(fmt.Errorf("nothing came for %s", a.cfg.Patience))
			}
		}
	}
}

// caughtUp waits for the tail, also while the log is away.
func (a *auditor) caughtUp(ctx context.Context) error {
	for {
		err := a.deps.Tail.CaughtUp(ctx)
		if err == nil {
			return nil
		}
		if longrun.Sleep(ctx, pollInterval) != nil {
			// Who ended the wait says why; the last failure is news only if it is another.
			if errors.Is(err, ctx.Err()) {
				err = nil
			}
			return errors.Join(fmt.Errorf("catch up with the log: %w", context.Cause(ctx)), err)
		}
	}
}

// settle returns when a group has committed all of the log.
func (a *auditor) settle(ctx context.Context, group string) error {
	var (
		least    int64 = -1
		progress       = time.Now()
		told           = time.Now()
	)
	for {
		lag, err := a.lag(ctx, group)
		now := time.Now()
		switch {
		case err == nil && lag == 0:
			return nil
		case err == nil && (least < 0 || lag < least):
			least, progress = lag, now
		case now.Sub(progress) >= a.cfg.Patience:
			if err != nil {
				return fmt.Errorf("lag of group %s not known for %s: %w", group, a.cfg.Patience, err)
			}
			return fmt.Errorf("group %s made no progress for %s and is %d records behind", group, a.cfg.Patience, lag)
		}
		if now.Sub(told) >= a.cfg.ProgressInterval {
			told = now
			if err != nil {
				a.deps.Log.Warn("audit does not know how far consumers are", "group", group, "topic", event.Topic, "err", err)
			} else {
				a.deps.Log.Info("audit waits for consumers", "group", group, "topic", event.Topic, "lag", lag)
			}
		}
		if err := longrun.Sleep(ctx, pollInterval); err != nil {
			return err
		}
	}
}

func (a *auditor) lag(ctx context.Context, group string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	return a.deps.Lag.Lag(ctx, group, event.Topic)
}
