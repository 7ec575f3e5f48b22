package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	facts "activityfeed/internal/delivery"
	"activityfeed/internal/middleware"
)

// Deps are what a [Feed] works with. It closes none of them.
type Deps struct {
	// Log is where the feed tells what happens. Required.
	Log *slog.Logger
	// Redis keeps the projection: a single Redis, a failover group or a cluster.
	// It must be opened with ContextTimeoutEnabled. Required.
	Redis redis.UniversalClient
	// Subscriber hands out the facts, key by key in order, with record.Origin in
	// the context of each message. Required for Run.
	Subscriber message.Subscriber
	// RetrySubscriber hands out the poison that was sent back. Required for Run.
	RetrySubscriber message.Subscriber
	// Publisher takes poison. Required for Run.
	Publisher message.Publisher
	// Marks writes read positions to the log. Nil: this process has no write side, and
	// MarkSeen answers UNAVAILABLE.
	Marks marks
	// Tail follows the log for live streams, from [LiveSince] ago or before that. Nil:
	// WatchFeed answers UNAVAILABLE.
	Tail tail
	// Behind says whether the consumers of the feed have yet to do something that is
	// before these offsets; a partition that is not named has to be done whole. While
	// it is so, streams are refused: they would miss what is in between. Nil means
	// never.
	Behind func(ctx context.Context, start map[int32]int64) (bool, error)
	// Reports takes the fact that a post is in its feeds, for analytics. Nil means
	// nobody asks.
	Reports *facts.Reporter
	// Metrics is where the collectors go. Nil means none.
	Metrics prometheus.Registerer
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

func (d Deps) validate() error {
	var errs []error
	if d.Log == nil {
		errs = append(errs, errors.New("feed: Deps.Log is missing"))
	}
	if d.Redis == nil {
		errs = append(errs, errors.New("feed: Deps.Redis is missing"))
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
		errs = append(errs, errors.New("feed: Deps.Redis needs ContextTimeoutEnabled"))
	}
	return errors.Join(errs...)
}

// Feed keeps home and author feeds and serves them.
type Feed struct {
	cfg     Config
	deps    Deps
	store   *redisStore
	handler *handler
	hub     *hub
}

// New returns a feed that neither reads nor writes yet.
func New(cfg Config, deps Deps) (*Feed, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m := newMetrics(deps.Metrics)
	store := newRedisStore(cfg, deps.Redis, deps.Now, m, deps.Log)
	return &Feed{
		cfg:     cfg,
		deps:    deps,
		store:   store,
		handler: &handler{store: store, log: deps.Log, metrics: m, now: deps.Now, reports: deps.Reports},
		hub:     newHub(deps, store),
	}, nil
}

// Close closes the connection that a feed has of its own, by which Redis tells of
// changes to pages that readers keep. It is to be called when nobody reads any more.
func (f *Feed) Close() error { return f.store.tracker.close() }

// Register adds the FeedService to a gRPC server.
func (f *Feed) Register(server grpc.ServiceRegistrar) {
	server.RegisterService(serviceDesc(), f.service())
}

func (f *Feed) service() *feedService {
	return &feedService{cfg: f.cfg, store: f.store, positions: f.store, marks: f.deps.Marks, hub: f.hub, now: f.deps.Now}
}

// RunLive follows the log for live streams until ctx ends, ends the streams and
// returns nil. It may be called once, beside Run or without it.
func (f *Feed) RunLive(ctx context.Context) error {
	if f.deps.Tail == nil {
		return errors.New("feed: RunLive needs Tail")
	}
	f.hub.run(ctx)
	return nil
}

// Run consumes facts until ctx ends, then waits for those in flight and returns
// nil. Any other end is an error. It may be called once.
func (f *Feed) Run(ctx context.Context) error {
	if f.deps.Subscriber == nil || f.deps.RetrySubscriber == nil || f.deps.Publisher == nil {
		return errors.New("feed: Run needs Subscriber, RetrySubscriber and Publisher")
	}
	poison := middleware.NewPoison(middleware.PoisonConfig{Service: service, MaxAttempts: f.cfg.MaxAttempts, Reports: f.deps.Reports},
		f.deps.Publisher, f.deps.Log, f.deps.Metrics)
	router, err := newRouter(f.cfg, f.deps, f.handler, poison)
	if err != nil {
		return err
	}
	if err := middleware.RunRouter(ctx, router, poison.Close); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

// Followers returns a page of those who follow user, in no promised order, and
// the token of the next page, empty at the end. A page may be short before the
// end. A token of another list is a fault of page_token.
func (f *Feed) Followers(ctx context.Context, user string, size int, token string) (ids []string, next string, err error) {
	return f.store.users(ctx, followers, user, size, token)
}

// Following returns a page of those whom user follows; see [Feed.Followers].
func (f *Feed) Following(ctx context.Context, user string, size int, token string) (ids []string, next string, err error) {
	return f.store.users(ctx, following, user, size, token)
}
