package middleware

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/fault"
)

// Retry calls a handler again in place, for blips that pass within a second;
// what lasts longer is nacked and backs off in its lane. Watermill's own Retry
// advances its backoff twice for each ShouldRetry, hence this one.
type Retry struct {
	// Attempts is how many calls may follow the first one; 0 means none.
	Attempts int
	// Initial is the upper bound of the first delay; it doubles with each one.
	// 0 means 50 ms.
	Initial time.Duration
	// Max is the largest delay. 0 means 1 s.
	Max time.Duration
}

// Middleware retries errors of kind Unavailable and Internal and passes the last
// error on. It waits a random time between zero and the bound ("full jitter"),
// so that the lanes which one blip has hit do not come back together.
func (r Retry) Middleware(h message.HandlerFunc) message.HandlerFunc {
	if r.Initial <= 0 {
		r.Initial = 50 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = time.Second
	}
	return func(msg *message.Message) ([]*message.Message, error) {
		bound := min(r.Initial, r.Max)
		for retries := 0; ; retries++ {
			produced, err := h(msg)
			if err == nil || retries >= r.Attempts || !retryable(err) {
				return produced, err
			}
			if !pause(msg.Context(), rand.N(bound)+1) {
				return nil, err
			}
			bound = min(2*bound, r.Max)
		}
	}
}

func retryable(err error) bool {
	// An open breaker stays open longer than all our delays together.
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrBreakerOpen) || isPanic(err) {
		return false
	}
	kind := fault.KindOf(err)
	return kind == fault.Unavailable || kind == fault.Internal
}

// pause waits for d; it returns false at once when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
