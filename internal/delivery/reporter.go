package delivery

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// publisher writes to the log and answers when the log has it all.
type publisher interface {
	PublishContext(ctx context.Context, topic string, messages ...*message.Message) error
}

// Config bounds a [Reporter].
type Config struct {
	// Source names the process in the records.
	Source string
	// Queue is how many facts may wait for the log. More are dropped. Zero: 20,000.
	Queue int
	// Batch is how many facts go to the log at once. Zero: 1,000.
	Batch int
	// Wait is how long a fact waits for its batch to fill. Zero: 500ms.
	Wait time.Duration
	// Timeout bounds one try to write a batch, and the writing of the rest at the
	// end. Zero: 5s.
	Timeout time.Duration
}

// Reporter takes facts from the services to the log. Safe for concurrent use. A
// nil Reporter takes every fact and does nothing.
type Reporter struct {
	cfg     Config
	pub     publisher
	log     *slog.Logger
	queue   chan Fact
	written prometheus.Counter
	dropped prometheus.Counter
}

// NewReporter returns a Reporter that gathers facts; Run writes them. A nil reg
// means no metrics.
func NewReporter(cfg Config, pub publisher, log *slog.Logger, reg prometheus.Registerer) *Reporter {
	cfg.Queue = cmp.Or(cfg.Queue, 20_000)
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.Wait = cmp.Or(cfg.Wait, 500*time.Millisecond)
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	with := promauto.With(reg)
	return &Reporter{
		cfg: cfg, pub: pub, log: log,
		queue: make(chan Fact, cfg.Queue),
		written: with.NewCounter(prometheus.CounterOpts{
			Name: "activityfeed_delivery_facts_written_total", Help: "Facts about deliveries that are on the topic deliveries.",
		}),
		dropped: with.NewCounter(prometheus.CounterOpts{
			Name: "activityfeed_delivery_facts_dropped_total", Help: "Facts about deliveries that the log did not take in time. The deliveries themselves were made.",
		}),
	}
}

// Report takes a fact and never waits. When too many wait already it is dropped
// and counted: the service's own work goes first.
func (r *Reporter) Report(f Fact) {
	if r == nil {
		return
	}
	select {
	case r.queue <- f:
	default:
		r.dropped.Inc()
	}
}

// Run writes facts until ctx ends, then writes what waits still, and returns nil.
// Stop the services before it. Call it once.
func (r *Reporter) Run(ctx context.Context) error {
	for {
		batch := r.gather(ctx)
		if len(batch) > 0 {
			r.write(ctx, batch)
		}
		if ctx.Err() != nil && len(r.queue) == 0 {
			return nil
		}
	}
}

// gather waits for a first fact, and then a little for more.
func (r *Reporter) gather(ctx context.Context) []Fact {
	var batch []Fact
	select {
	case f := <-r.queue:
		batch = append(batch, f)
	case <-ctx.Done():
	}
	timer := time.NewTimer(r.cfg.Wait)
	defer timer.Stop()
	for len(batch) < r.cfg.Batch {
		select {
		case f := <-r.queue:
			batch = append(batch, f)
			continue
		default:
		}
		if ctx.Err() != nil {
			return batch // nothing more comes
		}
		select {
		case f := <-r.queue:
			batch = append(batch, f)
		case <-timer.C:
			return batch
		case <-ctx.Done():
		}
	}
	return batch
}

// write puts a batch on the log. A log that is away is tried again for as long as
// the process runs, while the queue fills; at the end one try is all.
func (r *Reporter) write(ctx context.Context, batch []Fact) {
	messages := make([]*message.Message, 0, len(batch))
	for _, f := range batch {
		msg, err := Encode(f, r.cfg.Source)
		if err != nil {
			r.dropped.Inc()
			r.log.ErrorContext(ctx, "delivery: a fact cannot be written", "event_type", f.Type(), "err", err)
			continue
		}
		messages = append(messages, msg)
	}
	for try := 1; ; try++ {
		tryCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
		err := r.pub.PublishContext(tryCtx, Topic, messages...)
		cancel()
		if err == nil {
			r.written.Add(float64(len(messages)))
			return
		}
		if ctx.Err() != nil {
			r.dropped.Add(float64(len(messages)))
			r.log.WarnContext(ctx, "delivery: facts are lost, the log does not take them", "facts", len(messages), "err", err)
			return
		}
		if try == 1 {
			r.log.WarnContext(ctx, "delivery: the log takes no facts; they wait", "err", err)
		}
		timer := time.NewTimer(min(time.Duration(try)*100*time.Millisecond, 2*time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
