package feed

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/middleware"
)

// service is the feed's name: of its poison and retry topics, and in metrics.
const service = "feed"

// newRouter wires the feed: topic, middleware, handler, in the order in which a
// message meets them.
//
//	activity   (all facts)          -+
//	                                 +-> suspected -> calls -> retry -> breaker -> permanent -> recoverer -> handle
//	feed.retry (replayed poison)    -+
func newRouter(cfg Config, deps Deps, h *handler, poison *middleware.Poison) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: cfg.CloseTimeout}, middleware.NewRouterLogger(deps.Log))
	if err != nil {
		return nil, fmt.Errorf("feed: router: %w", err)
	}
	router.AddMiddleware(newMiddleware(cfg, poison, deps.Log, deps.Metrics)...)
	router.AddConsumerHandler(service, event.Topic, deps.Subscriber, h.handle)
	router.AddConsumerHandler(service+"-retry", event.RetryTopic(service), deps.RetrySubscriber, h.handle)
	return router, nil
}
