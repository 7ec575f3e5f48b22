package middleware_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	const initial, largest = 100 * time.Millisecond, 300 * time.Millisecond
	bounds := []time.Duration{initial, 2 * initial, largest, largest}
	for _, tt := range []struct {
		name  string
		err   error
		calls int
	}{
		{"outage", fault.Outage("x", errUnknown), 5},
		{"unknown", errUnknown, 5},
		{"permanent", fault.Poison("invalid", errUnknown), 1},
		{"invalid argument", fault.Invalid("f", "no"), 1},
		{"not found", fault.Missing("gone"), 1},
		{"cancelled", fault.Outage("x", context.Canceled), 1},
		{"panic", fmt.Errorf("handle: %w", wmiddleware.RecoveredPanicError{V: "no"}), 1},
		{"open breaker", fault.Outage("x", middleware.ErrBreakerOpen), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls, last := 0, time.Now()
				h := middleware.Retry{Attempts: 4, Initial: initial, Max: largest}.Middleware(
					func(*message.Message) ([]*message.Message, error) {
						if waited := time.Since(last); calls > 0 && (waited <= 0 || waited > bounds[calls-1]) {
							t.Errorf("waited %v before call %d, want at most %v", waited, calls+1, bounds[calls-1])
						}
						calls, last = calls+1, time.Now()
						return nil, tt.err
					})
				if _, err := h(newMessage(subject, "x")); err != tt.err { //nolint:errorlint // the very same error
					t.Errorf("error = %v, want the last one as it is", err)
				}
				if calls != tt.calls {
					t.Errorf("calls = %d, want %d", calls, tt.calls)
				}
			})
		})
	}
}

func TestRetryDelaysDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		delays := map[time.Duration]bool{}
		for range 20 {
			start := time.Now()
			h := middleware.Retry{Attempts: 1, Initial: time.Second}.Middleware(failing(errUnknown))
			h(newMessage(subject, "x")) // the time counts
			delays[time.Since(start)] = true
		}
		if len(delays) < 10 {
			t.Errorf("20 delays took %d values only", len(delays))
		}
	})
}

func TestRetryStopsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		msg := newMessage(subject, "x")
		msg.SetContext(ctx)
		calls := 0
		start := time.Now()
		time.AfterFunc(time.Millisecond, cancel)
		h := middleware.Retry{Attempts: 100, Initial: time.Hour, Max: time.Hour}.Middleware(
			func(*message.Message) ([]*message.Message, error) { calls++; return nil, errUnknown })
		if _, err := h(msg); err != errUnknown { //nolint:errorlint // the very same error
			t.Errorf("error = %v, want the handler's", err)
		}
		if calls != 1 || time.Since(start) > time.Millisecond {
			t.Errorf("%d calls in %v, want one, and an end with the context", calls, time.Since(start))
		}
	})
}
