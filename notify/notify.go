package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"activityfeed/internal/delivery"
	"activityfeed/internal/middleware"
	pb "activityfeed/proto/activityfeed/v1"
)

// serviceName names the service in topics, metrics and logs.
const serviceName = "notify"

// Deps are the outside things that notify works with. The caller owns the Redis
// client and the publisher and closes them after Run; the subscribers are closed
// by Run.
type Deps struct {
	// Log gets what an operator should know. Required.
	Log *slog.Logger
	// Redis holds the inboxes: one server, a failover group or a cluster. It must
	// be opened with ContextTimeoutEnabled. Required.
	Redis redis.UniversalClient
	// Subscriber reads the log for the consumer group of notify. Nil: this process
	// only answers calls, and another one keeps the inboxes.
	Subscriber message.Subscriber
	// RetrySubscriber reads what was replayed out of poison. Required with Subscriber.
	RetrySubscriber message.Subscriber
	// Publisher writes poison; it answers when the log has it. Required with Subscriber.
	Publisher message.Publisher
	// Reports takes the fact that a post is in its inboxes, for analytics; nil means
	// nobody asks.
	Reports *delivery.Reporter
	// Metrics registers the metrics; nil means none.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (d Deps) validate() error {
	var errs []error
	if d.Log == nil {
		errs = append(errs, errors.New("notify: Deps.Log is missing"))
	}
	if d.Redis == nil {
		errs = append(errs, errors.New("notify: Deps.Redis is missing"))
	}
	// Without this option go-redis ignores the deadlines of contexts.
	enabled := true
	switch client := d.Redis.(type) {
	case *redis.Client:
		enabled = client.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		enabled = client.Options().ContextTimeoutEnabled
	}
	if !enabled {
		errs = append(errs, errors.New("notify: Deps.Redis needs ContextTimeoutEnabled"))
	}
	if d.Subscriber != nil && (d.RetrySubscriber == nil || d.Publisher == nil) {
		errs = append(errs, errors.New("notify: Deps.Subscriber needs RetrySubscriber and Publisher"))
	}
	return errors.Join(errs...)
}

// Notify keeps everybody's inbox of notifications and serves the
// NotificationService. See the package comment for its promises.
type Notify struct {
	cfg     Config
	deps    Deps
	handler *handler
	service *service
	hub     *hub
}

// New returns a Notify that does nothing yet; it does not talk to Redis.
func New(cfg Config, deps Deps) (*Notify, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	metrics := newMetrics(deps.Metrics)
	store := &store{
		redis: deps.Redis, cfg: cfg, now: deps.Now, metrics: metrics,
		inserting: semaphore.NewWeighted(int64(2 * cfg.PipelineSize)),
	}
	hub := newHub(store, cfg, deps.Log, metrics)
	return &Notify{
		cfg:     cfg,
		deps:    deps,
		handler: &handler{store: store, now: deps.Now, metrics: metrics, everyPost: cfg.DefaultLevel == levelAll, reports: deps.Reports},
		service: &service{store: store, hub: hub, cfg: cfg, metrics: metrics},
		hub:     hub,
	}, nil
}

// Register adds the NotificationService to a gRPC server. Live streams begin when
// Run runs; the other methods do not need it.
func (n *Notify) Register(r grpc.ServiceRegistrar) {
	pb.RegisterNotificationServiceServer(r, n.service)
}

// Run processes events and serves live streams until ctx ends; then it ends the
// streams, waits for the events in flight and returns nil. Any other end is an
// error. It may be called once.
func (n *Notify) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		n.hub.run(ctx)
		return nil
	})
	if n.deps.Subscriber != nil {
		group.Go(func() error { return n.consume(ctx) })
	}
	return group.Wait()
}

// consume runs the router until ctx ends.
func (n *Notify) consume(ctx context.Context) error {
	poison := middleware.NewPoison(middleware.PoisonConfig{Service: serviceName, MaxAttempts: n.cfg.MaxAttempts, Reports: n.deps.Reports},
		n.deps.Publisher, n.deps.Log, n.deps.Metrics)
	router, err := newRouter(n.cfg, n.deps, n.handler, poison)
	if err != nil {
		return err
	}
	if err := middleware.RunRouter(ctx, router, poison.Close); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
