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
	"activityfeed/internal/event"
	"activityfeed/internal/middleware"
	"activityfeed/internal/redispipe"
	"activityfeed/notify/deliver"
	"activityfeed/notify/device"
	"activityfeed/notify/push"
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
	// AccountSubscriber reads what people set for themselves, in a group of its own.
	// Required with Subscriber.
	AccountSubscriber message.Subscriber
	// Publisher writes poison; it answers when the log has it. Required with Subscriber.
	Publisher message.Publisher
	// Reports takes the fact that a post is in its inboxes, for analytics; nil means
	// nobody asks.
	Reports *delivery.Reporter
	// Facts writes what people set for themselves; it answers when the log has it. Nil:
	// nothing can be set here.
	Facts message.Publisher
	// IDs makes the ids of facts. No two processes may share its node. Nil: nothing
	// can be set here.
	IDs *event.IDs
	// Source names this process in the facts that it writes.
	Source string
	// Senders are the push services that are configured; none means no pushes.
	Senders push.Senders
	// WebPushKey is the public key with which browsers subscribe, in base64url.
	WebPushKey string
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
	if d.Subscriber != nil && (d.RetrySubscriber == nil || d.AccountSubscriber == nil || d.Publisher == nil) {
		errs = append(errs, errors.New("notify: Deps.Subscriber needs RetrySubscriber, AccountSubscriber and Publisher"))
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
	pushes  *deliver.Deliverer
	poison  *middleware.Poison
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
		redis: deps.Redis, pipe: redispipe.New(deps.Redis, cfg.RedisTimeout, allScripts...),
		cfg: cfg, now: deps.Now, metrics: metrics,
		inserting: semaphore.NewWeighted(int64(2 * cfg.PipelineSize)),
	}
	n := &Notify{cfg: cfg, deps: deps, hub: newHub(store, cfg, deps.Log, metrics)}
	if deps.Publisher != nil {
		n.poison = middleware.NewPoison(middleware.PoisonConfig{Service: serviceName, MaxAttempts: cfg.MaxAttempts, Reports: deps.Reports},
			deps.Publisher, deps.Log, deps.Metrics)
	}
	facts := &facts{publisher: deps.Facts, ids: deps.IDs, now: deps.Now, source: deps.Source}
	devices := device.New(deps.Redis, cfg.RedisTimeout)
	var err error
	n.pushes, err = deliver.New(cfg.Push, deliver.Deps{
		Log: deps.Log, Redis: deps.Redis, RedisTimeout: cfg.RedisTimeout, Devices: devices,
		Home: &home{store: store, facts: facts, poison: n.poison}, Senders: deps.Senders,
		Reports: deps.Reports, Metrics: deps.Metrics, Now: deps.Now,
	})
	if err != nil {
		return nil, err
	}
	n.handler = &handler{
		store: store, now: deps.Now, metrics: metrics, pushes: n.pushes, devices: devices,
		reports: deps.Reports,
	}
	n.service = &service{
		store: store, hub: n.hub, cfg: cfg, metrics: metrics, facts: facts, devices: devices, pushes: n.pushes,
		senders: deps.Senders, webPushKey: deps.WebPushKey,
	}
	return n, nil
}

// Register adds the NotificationService to a gRPC server. Live streams begin when
// Run runs; the other methods do not need it.
func (n *Notify) Register(r grpc.ServiceRegistrar) {
	pb.RegisterNotificationServiceServer(r, n.service)
}

// Run processes events, sends pushes and serves live streams until ctx ends; then it
// ends the streams, waits for the events and pushes under way and returns nil. Any other end is an
// error. It may be called once.
func (n *Notify) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		n.hub.run(ctx)
		return nil
	})
	if n.deps.Subscriber != nil {
		group.Go(func() error { return n.consume(ctx) })
		group.Go(func() error {
			n.pushes.Run(ctx)
			return nil
		})
	}
	return group.Wait()
}

// consume runs the router until ctx ends.
func (n *Notify) consume(ctx context.Context) error {
	router, err := newRouter(n.cfg, n.deps, n.handler, n.poison)
	if err != nil {
		return err
	}
	if err := middleware.RunRouter(ctx, router, n.poison.Close); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
