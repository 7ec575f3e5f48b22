package analytics

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/middleware"
)

// newRouter wires the way of an event: topic, middleware, sink. A router runs
// once, so each Run has its own.
func (a *Analytics) newRouter() (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: a.cfg.CloseTimeout}, middleware.NewRouterLogger(a.deps.Log))
	if err != nil {
		return nil, fmt.Errorf("analytics: router: %w", err)
	}
	router.AddConsumerHandler("analytics", event.Topic, a.deps.Subscriber, a.sink.handleBatch).
		AddMiddleware(stack(a.cfg, a.batchPoison, a.breaker)...)
	router.AddConsumerHandler("analytics-retry", event.RetryTopic(Service), a.deps.RetrySubscriber, a.sink.handleSingle).
		AddMiddleware(stack(a.cfg, a.singlePoison, a.breaker)...)
	return router, nil
}
