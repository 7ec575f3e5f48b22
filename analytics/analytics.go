package analytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/delivery"
	policy "activityfeed/internal/middleware"
)

// How long to wait between looks for a ClickHouse that is away at the start.
const (
	firstLook = 250 * time.Millisecond
	lastLook  = 10 * time.Second
)

// Deps are what Analytics is built on. Whoever made them closes them, after Run.
type Deps struct {
	// Log takes what an operator should know. Required.
	Log *slog.Logger
	// Subscriber reads the log in batches (see internal/record.Batch), as the
	// group "analytics". Required.
	Subscriber message.Subscriber
	// RetrySubscriber reads single records that come back from poison. Required.
	RetrySubscriber message.Subscriber
	// DeliverySubscriber reads what the services did (internal/delivery), in batches,
	// as a group of its own. Nil: it is left to another process.
	DeliverySubscriber message.Subscriber
	// Reports takes the fact that a record went to poison. Nil means nobody asks.
	Reports *delivery.Reporter
	// Publisher takes poison; it answers when the log has it. Required.
	Publisher message.Publisher
	// Metrics registers what the sink counts; nil means nobody looks.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Analytics is the sink of all events into ClickHouse. See the package comment.
type Analytics struct {
	cfg    Config
	deps   Deps
	conn   driver.Conn
	schema *schema
	// sink writes the events, deliveries what was done with them.
	sink, deliveries *sink
	breaker          *policy.Breaker
	// Two policies, for the two forms of a message; they share their metrics.
	batchPoison, singlePoison *policy.Poison
}

// New returns an Analytics that does nothing yet. It does not connect, so it
// succeeds while ClickHouse is away.
func New(cfg Config, deps Deps) (*Analytics, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	files, err := migrations(schemaFiles)
	if err != nil {
		return nil, err
	}
	conn, err := open(cfg, "")
	if err != nil {
		return nil, err
	}
	others, err := openEach(cfg)
	if err != nil {
		return nil, err
	}
	a := &Analytics{
		cfg:          cfg,
		deps:         deps,
		conn:         conn,
		breaker:      newBreaker(deps.Log, deps.Metrics),
		batchPoison:  newPoison(cfg, true, deps),
		singlePoison: newPoison(cfg, false, deps),
	}
	newBlock := newRows
	if cfg.OmitPosts {
		newBlock = newBareRows
	}
	to := targetOf(cfg)
	a.schema = &schema{conn: conn, others: others, target: to, ttl: cfg.TTL, timeout: cfg.SchemaTimeout, files: files, log: deps.Log}
	a.sink = &sink{
		store:       &gatherer{inserter: &store{conn: conn, table: to.Table("events"), timeout: cfg.InsertTimeout}, wait: cfg.Gather},
		poison:      a.singlePoison, // the sink hands over single records
		log:         deps.Log,
		metrics:     newMetrics(deps.Metrics, deps.Now),
		now:         deps.Now,
		maxAttempts: cfg.MaxAttempts,
		newBlock:    newBlock,
		slots:       make(chan struct{}, slots()),
		// As many records may be undecodable as are good. A few may be refused by
		// ClickHouse: 2 % of the others, or one in five minutes, as in internal/middleware.
		undecodable: newBudget(float64(cfg.PoisonLimit), 1, time.Minute, deps.Now),
		refused:     newBudget(10, 0.02, 5*time.Minute, deps.Now),
	}
	a.deliveries = &sink{
		store:       &gatherer{inserter: &store{conn: conn, table: to.Table("deliveries"), timeout: cfg.InsertTimeout}, wait: cfg.Gather},
		poison:      a.singlePoison,
		log:         deps.Log,
		metrics:     a.sink.metrics,
		now:         deps.Now,
		maxAttempts: cfg.MaxAttempts,
		newBlock:    newFacts,
		slots:       make(chan struct{}, 1),
		undecodable: newBudget(float64(cfg.PoisonLimit), 1, time.Minute, deps.Now),
		refused:     newBudget(10, 0.02, 5*time.Minute, deps.Now),
	}
	return a, nil
}

// slots is how many batches of events are worked on at once: while one waits for
// ClickHouse, the cores have another to decode.
func slots() int { return runtime.GOMAXPROCS(0) + 1 }

func (d Deps) validate() error {
	var faults []error
	for _, dep := range []struct {
		name string
		nil  bool
	}{
		{"Log", d.Log == nil},
		{"Subscriber", d.Subscriber == nil},
		{"RetrySubscriber", d.RetrySubscriber == nil},
		{"Publisher", d.Publisher == nil},
	} {
		if dep.nil {
			faults = append(faults, fmt.Errorf("analytics: Deps.%s is missing", dep.name))
		}
	}
	return errors.Join(faults...)
}

// Prepare applies the schema and returns when it is there, however long ClickHouse
// takes to come. Run does it too; this is for who wants the tables before.
func (a *Analytics) Prepare(ctx context.Context) error { return a.prepare(ctx) }

// Run applies the schema and then moves events until ctx ends, and returns nil
// after a clean stop. While ClickHouse is away at the start it waits and consumes
// nothing; later outages are the middleware's affair. It returns an error at once
// if the schema cannot be what the files say, with the file and the statement. Call it once.
func (a *Analytics) Run(ctx context.Context) error {
	defer func() {
		for _, conn := range append(a.schema.others, a.conn) {
			_ = conn.Close()
		}
	}()
	if err := a.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while waiting: nothing was begun
		}
		return err
	}
	router, err := a.newRouter()
	if err != nil {
		return err
	}
	closing := func() { a.batchPoison.Close(); a.singlePoison.Close() }
	if err := policy.RunRouter(ctx, router, closing); err != nil {
		return fmt.Errorf("analytics: %w", err)
	}
	return nil
}

// prepare applies the schema, however long ClickHouse takes to come.
func (a *Analytics) prepare(ctx context.Context) error {
	said := ""
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		err := a.schema.apply(ctx)
		switch {
		case err == nil:
			if said != "" {
				a.deps.Log.InfoContext(ctx, "analytics: ClickHouse is there; catching up")
			}
			return nil
		case errors.Is(err, errSchemaChanged), errors.Is(err, errSchemaWrong), ctx.Err() != nil:
			return err
		case said != complaint(err):
			// Once for each kind of trouble: "connection refused" may become "wrong password".
			said = complaint(err)
			a.metricsWait()
			a.deps.Log.WarnContext(ctx, "analytics: ClickHouse is away; events wait in the log until it comes",
				"addr", a.cfg.Addr, "err", err)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// metricsWait lets the freshness grow from now on.
func (a *Analytics) metricsWait() { a.sink.metrics.stale(a.deps.Now()) }

// Query answers one question, see [Reader.Query]. It needs no Run.
func (a *Analytics) Query(ctx context.Context, w io.Writer, sql, format string) error {
	reader, err := OpenReader(a.cfg)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	return reader.Query(ctx, w, sql, cmp.Or(format, FormatTable))
}
