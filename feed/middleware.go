package feed

import (
	"context"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/middleware"
)

// newMiddleware returns the feed's failure policy, the outermost layer first. An
// error means what internal/fault says: Redis answers with outages, which are
// retried for ever; what cannot be decoded is poison; the rest is a bug.
func newMiddleware(cfg Config, poison *middleware.Poison, log *slog.Logger, reg prometheus.Registerer) []message.HandlerMiddleware {
	retry := middleware.Retry{Attempts: max(cfg.Retries, 0), Initial: cfg.RetryInitial, Max: cfg.RetryMax}
	breaker := middleware.NewBreaker(middleware.BreakerConfig{Name: "feed-redis"}, log, reg)
	return []message.HandlerMiddleware{
		// Outermost: a message is suspected only for what is left when every layer
		// below has done what it can.
		poison.Suspected,
		// Outside retry, which calls everything below again: this is where the
		// calls of one delivery are told apart.
		countCalls,
		// Outside the breaker, so that each try asks it: a Redis that goes down
		// between two tries is spared the rest of them.
		retry.Middleware,
		// Outside the permanent filter: poison is no news of Redis and must not
		// open it.
		breaker.Middleware,
		// Inside retry: what can never succeed leaves on its first try, instead of
		// keeping its lane busy for the others.
		poison.Permanent,
		// Innermost: a panic becomes an error here, so that every layer above sees
		// it; farther out it would tear through them all.
		wmiddleware.Recoverer,
	}
}

type callKey struct{}

// countCalls counts the calls that the layers below make for one delivery. The
// number of deliveries is in the message's origin already, but a retry in place
// is a repeat as well: part of its pushes may have happened.
func countCalls(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		msg.SetContext(context.WithValue(ctx, callKey{}, new(int)))
		defer msg.SetContext(ctx)
		return h(msg)
	}
}

// callOf returns how often the handler was called for this delivery, this call
// included. Without the middleware each call is the first.
func callOf(ctx context.Context) int {
	calls, ok := ctx.Value(callKey{}).(*int)
	if !ok {
		return 1
	}
	*calls++
	return *calls
}
