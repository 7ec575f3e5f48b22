package post

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// publisher writes facts to the log; it returns when the log has them (acks=all).
type publisher interface {
	PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error
}

// tail follows the log from Config.IdempotencyWindow ago, or from before that.
type tail interface {
	// Run calls fn with each record, those of a partition in their order, until
	// ctx ends.
	Run(ctx context.Context, fn func(*message.Message) error) error
	// CaughtUp returns when fn has had everything that was in the log at the call.
	CaughtUp(ctx context.Context) error
}

// Deps is what the write side of photos works with. All but Metrics are required.
type Deps struct {
	Log       *slog.Logger
	Publisher publisher
	Tail      tail
	// IDs makes the ids of posts and events. No two processes may share its node.
	IDs *event.IDs
	// Now is the clock by which idempotency keys expire.
	Now func() time.Time
	// Source names this process in the events that it writes.
	Source string
	// Metrics is where counters are registered; nil means nowhere.
	Metrics prometheus.Registerer
}

// Post is the write side of photos.
type Post struct {
	cfg  Config
	deps Deps

	index    *index
	attempts *attempts
	keys     keyLocks
	// lookups carries those who wait for the index to reach the end of the log.
	lookups chan chan<- error
	// stopped is closed when Run ends.
	stopped chan struct{}
	repeats *prometheus.CounterVec
}

// New returns a Post. [Post.Run] must run for commands with an idempotency key to
// be answered.
func New(cfg Config, deps Deps) (*Post, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil || deps.Publisher == nil || deps.Tail == nil || deps.IDs == nil || deps.Now == nil || deps.Source == "" {
		return nil, errors.New("post: Log, Publisher, Tail, IDs, Now and Source are required")
	}
	cfg = cfg.withDefaults()
	p := &Post{
		cfg:      cfg,
		deps:     deps,
		index:    newIndex(cfg.IdempotencyWindow),
		attempts: newAttempts(),
		lookups:  make(chan chan<- error),
		stopped:  make(chan struct{}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "activityfeed_post_keyed_total",
			Help: "Commands with an idempotency key: new, repeat (the first answer was given), conflict (refused).",
		}, []string{"outcome"}),
	}
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(p.repeats); err != nil {
			return nil, fmt.Errorf("post: metrics: %w", err)
		}
	}
	return p, nil
}

// Register adds PostService to a server.
func (p *Post) Register(r grpc.ServiceRegistrar) {
	pb.RegisterPostServiceServer(r, service{post: p})
}

// retryPause is the wait before the log is followed again after a failure.
const retryPause = time.Second

// Run follows the log for idempotency keys until ctx ends, then returns nil. A log
// that cannot be followed is tried again. It runs once.
func (p *Post) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.answerLookups(ctx) })
	for {
		err := p.deps.Tail.Run(ctx, p.remember)
		if ctx.Err() != nil {
			return nil
		}
		p.deps.Log.Error("following the log for idempotency keys failed; trying again", "topic", event.Topic, "pause", retryPause, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryPause):
		}
	}
}
