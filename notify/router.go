package notify

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/middleware"
)

// newRouter wires notify: topic, middleware, handler, in the order in which a
// message meets them.
//
//	activity     (all facts)        -+
//	account      (what people set)  -+-> suspected -> retry -> breaker -> permanent -> recoverer -> handle
//	notify.retry (replayed poison)  -+
func newRouter(cfg Config, deps Deps, h *handler, poison *middleware.Poison) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: cfg.CloseTimeout}, middleware.NewRouterLogger(deps.Log))
	if err != nil {
		return nil, fmt.Errorf("notify: router: %w", err)
	}
	router.AddMiddleware(newMiddleware(cfg, poison, deps.Log, deps.Metrics)...)
	router.AddConsumerHandler(serviceName, event.Topic, deps.Subscriber, h.handle)
	router.AddConsumerHandler(serviceName+"-account", event.AccountTopic, deps.AccountSubscriber, h.handle)
	router.AddConsumerHandler(serviceName+"-retry", event.RetryTopic(serviceName), deps.RetrySubscriber, h.handle)
	return router, nil
}
