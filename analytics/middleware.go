package analytics

import (
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"

	policy "activityfeed/internal/middleware"
)

// newPoison returns the poison policy for messages that carry many records, or one.
func newPoison(cfg Config, batch bool, deps Deps) *policy.Poison {
	return policy.NewPoison(policy.PoisonConfig{
		Service: Service, MaxAttempts: cfg.MaxAttempts, Batch: batch, Reports: deps.Reports,
	}, deps.Publisher, deps.Log, deps.Metrics)
}

// newBreaker returns what all handlers share: there is one ClickHouse.
func newBreaker(log *slog.Logger, reg prometheus.Registerer) *policy.Breaker {
	// An insert is large and rare: a handful of failures is all that an outage
	// shows, as each partition waits for its own.
	return policy.NewBreaker(policy.BreakerConfig{Name: Service + "-clickhouse", Volume: 4}, log, reg)
}

// stack is what happens when an insert fails, outermost first.
//
// There is no layer that poisons permanent faults: it could only bury a whole
// batch. The sink does that, record by record.
func stack(cfg Config, poison *policy.Poison, breaker *policy.Breaker) []message.HandlerMiddleware {
	return []message.HandlerMiddleware{
		// What keeps failing while the other batches go in, and is no outage, is a
		// panic over its rows: after MaxAttempts its records are buried one by one.
		// Outermost, so that it sees what retrying could not settle.
		poison.Suspected,
		// A blip passes in place, and the batch keeps its boundaries and its token.
		// Outside the breaker, so that each try asks it; when it is open the batch
		// goes back to its lane, which waits longer.
		policy.Retry{Attempts: cfg.RetryAttempts - 1, Initial: cfg.RetryInitial, Max: cfg.RetryMax}.Middleware,
		// A ClickHouse that is down is left alone but for a probe.
		breaker.Middleware,
		// Innermost: a panic becomes an error that the layers above can judge.
		middleware.Recoverer,
	}
}
