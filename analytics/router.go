package analytics

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/delivery"
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
	router.AddConsumerHandler("analytics-retry", event.RetryTopic(Service), a.deps.RetrySubscriber, a.handleSingle).
		AddMiddleware(stack(a.cfg, a.singlePoison, a.breaker)...)
	if a.deps.DeliverySubscriber != nil {
		router.AddConsumerHandler("analytics-deliveries", delivery.Topic, a.deps.DeliverySubscriber, a.deliveries.handleBatch).
			AddMiddleware(stack(a.cfg, a.batchPoison, a.breaker)...)
	}
	return router, nil
}

// handleSingle is the handler of the retry topic, where the records of both topics
// come back.
func (a *Analytics) handleSingle(msg *message.Message) error {
	if delivery.Is(msg) {
		return a.deliveries.handleSingle(msg)
	}
	return a.sink.handleSingle(msg)
}
