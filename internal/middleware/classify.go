package middleware

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"activityfeed/internal/fault"
)

// Reasons of failures and poison that are not a fault's own.
const (
	// ReasonPanic is a handler that panicked.
	ReasonPanic = "panic"
	// ReasonExhausted is a message that kept failing while its neighbours succeeded.
	ReasonExhausted = "exhausted"

	reasonCancelled = "cancelled"
	reasonOutage    = "outage"
	reasonInternal  = "internal"
	reasonPermanent = "permanent"
)

// classify returns what an error of a handler means: a reason for the metrics,
// and whether the message is poison for certain. ctx is the message's.
func classify(ctx context.Context, err error) (reason string, permanent bool) {
	// First of all: whatever a cancelled handler says, nobody knows what it would
	// have said otherwise.
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, context.Canceled) {
		return reasonCancelled, false
	}
	f := fault.Of(err)
	switch {
	case f != nil && f.Kind == fault.Unavailable:
		return reasonOutage, false
	case isPanic(err):
		return ReasonPanic, true
	case f != nil && f.Kind == fault.Permanent && f.Reason != "":
		return f.Reason, true
	case f != nil && f.Kind == fault.Permanent:
		return reasonPermanent, true
	// A deadline is some engine's slowness, also where a handler forgot to say so.
	case errors.Is(err, context.DeadlineExceeded):
		return reasonOutage, false
	}
	return reasonInternal, false
}

func isPanic(err error) bool {
	var panicked middleware.RecoveredPanicError
	return errors.As(err, &panicked)
}
