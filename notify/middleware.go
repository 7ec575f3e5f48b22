package notify

import (
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/middleware"
)

// newMiddleware returns notify's failure policy, the outermost layer first. An
// error means what internal/fault says: Redis answers with outages, which are
// retried for ever; what cannot be decoded is poison; the rest is a bug.
func newMiddleware(cfg Config, poison *middleware.Poison, log *slog.Logger, reg prometheus.Registerer) []message.HandlerMiddleware {
	retry := middleware.Retry{Attempts: max(cfg.Retries, 0), Initial: cfg.RetryInitial, Max: cfg.RetryMax}
	breaker := middleware.NewBreaker(middleware.BreakerConfig{Name: "notify-redis"}, log, reg)
	return []message.HandlerMiddleware{
		// Outermost: only what every layer below could not settle is suspected.
		// Inside retry, a blip that the next try heals would be a strike against
		// the event.
		poison.Suspected,
		// Outside the breaker, so that each try asks it: a Redis that goes down
		// while a large audience is being told is spared the remaining tries.
		retry.Middleware,
		// Outside the permanent filter: an event that nobody can decode never came
		// near Redis and must neither open nor close it.
		breaker.Middleware,
		// Inside retry: what can never succeed leaves on its first try, instead of
		// keeping its author's lane busy.
		poison.Permanent,
		// Innermost: a panic becomes an error before any layer has to judge it.
		wmiddleware.Recoverer,
	}
}
