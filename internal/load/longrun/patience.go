package longrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// firstPause is the upper bound of the first pause; it doubles with each
	// failure. A server under load answers again within milliseconds.
	firstPause = 20 * time.Millisecond
	// maxPause keeps a run from sleeping long after a restarted server is back.
	maxPause = time.Second
)

// ErrGaveUp says that a call failed for longer than patience lasts.
var ErrGaveUp = errors.New("gave up")

// Patience repeats a call for as long as the server is away or too busy. It is
// safe for concurrent use.
type Patience struct {
	// Timeout is the deadline of one attempt. Must be above zero.
	Timeout time.Duration
	// Total is how long a call may fail, counted from its first failure, before
	// the run gives up. Must be above zero.
	Total time.Duration
	// Retried, if not nil, is told of each failure that leads to another attempt.
	Retried func(err error)
}

// Do calls until the server gives an answer that lasts: success, or an error
// that another attempt would meet again. What may pass is UNAVAILABLE,
// DEADLINE_EXCEEDED of one attempt, RESOURCE_EXHAUSTED (a rate limit), ABORTED,
// and CANCELED by a server that goes down; the fate of such an attempt is
// unknown, so the call must be one that can be repeated. When ctx ends, its cause
// comes back; when patience is over, ErrGaveUp with the last failure.
func (p Patience) Do(ctx context.Context, call func(ctx context.Context) error) error {
	var firstFailure time.Time
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := p.attempt(ctx, call)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !passing(err):
			return err
		case firstFailure.IsZero():
			firstFailure = time.Now()
		case time.Since(firstFailure) >= p.Total:
			return fmt.Errorf("%w after %s: %w", ErrGaveUp, p.Total, err)
		}
		if p.Retried != nil {
			p.Retried(err)
		}
		// Full jitter: callers that failed together do not come back together.
		if err := Sleep(ctx, rand.N(pause)); err != nil {
			return err
		}
	}
}

func (p Patience) attempt(ctx context.Context, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	return call(ctx)
}

func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled:
		return true
	default:
		return false
	}
}

// Sleep waits for d; it returns why the context ended where that comes first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
