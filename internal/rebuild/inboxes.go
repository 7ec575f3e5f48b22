package rebuild

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
)

// Inboxes is what a service keeps of the log that depends on what held at the time of
// each fact, being made anew; see notify.Restore.
type Inboxes interface {
	// Account remembers a fact of the topic of accounts, and SettleAccount writes what
	// is remembered.
	Account(e event.Event) error
	SettleAccount(ctx context.Context) error
	// Hide remembers what hides others in the whole log; SettleHidden writes it.
	Hide(e event.Event) error
	SettleHidden(ctx context.Context) error
	// Take takes the facts of a partition, in their order. SettleFollows writes who
	// follows; what came by then is taken too, and Next ends the partition.
	Take(ctx context.Context, e event.Event) error
	SettleFollows(ctx context.Context) error
	Next(ctx context.Context) error
}

// InboxDeps are what a rebuild of inboxes works with. All are required.
type InboxDeps struct {
	Log     *slog.Logger
	Topics  Topics
	Inboxes Inboxes
}

// RunInboxes makes the inboxes anew and returns when they are. It reads the topic of
// accounts once and the log twice. Progress goes to out.
func RunInboxes(ctx context.Context, cfg Config, deps InboxDeps, out io.Writer) (Result, error) {
	r := &inboxRun{cfg: cfg, deps: deps, out: out}
	err := r.result.timed("rebuild the inboxes", func() error { return r.all(ctx) })
	return r.result, err
}

type inboxRun struct {
	cfg    Config
	deps   InboxDeps
	out    io.Writer
	result Result
}

func (r *inboxRun) all(ctx context.Context) error {
	to := r.deps.Inboxes
	err := r.read(ctx, "what people set", event.AccountTopic, func(_ context.Context, e event.Event) error { return to.Account(e) }, nil)
	if err != nil {
		return err
	}
	if err := to.SettleAccount(ctx); err != nil {
		return err
	}
	hide := func(_ context.Context, e event.Event) error { return to.Hide(e) }
	if err := r.read(ctx, "blocks and deletes", event.Topic, hide, nil); err != nil {
		return err
	}
	if err := to.SettleHidden(ctx); err != nil {
		return err
	}
	r.result = Result{} // what was read is counted once
	return r.read(ctx, "inboxes", event.Topic, to.Take, r.finish)
}

// read reads a topic, a partition after the other, and calls then at the end of each.
func (r *inboxRun) read(
	ctx context.Context, title, topic string, fn func(context.Context, event.Event) error,
	then func(ctx context.Context, partition int32, end int64) error,
) error {
	log, err := extentOf(ctx, r.deps.Topics, topic)
	if err != nil {
		return err
	}
	bar := r.cfg.bar(r.out, title, log.records, nil)
	defer bar.Stop()
	for _, partition := range slices.Sorted(maps.Keys(log.ends)) {
		end := log.ends[partition]
		err := r.scan(ctx, topic, partition, 0, end, fn, func() { bar.Add(1) })
		if err == nil && then != nil {
			err = then(ctx, partition, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish writes the follows of a partition and takes what came meanwhile: its consumer
// handled that while they were not there.
func (r *inboxRun) finish(ctx context.Context, partition int32, end int64) error {
	if err := r.deps.Inboxes.SettleFollows(ctx); err != nil {
		return err
	}
	ends, err := r.deps.Topics.EndOffsets(ctx, event.Topic)
	if err != nil {
		return err
	}
	if err := r.scan(ctx, event.Topic, partition, end, ends[partition], r.deps.Inboxes.Take, func() {}); err != nil {
		return err
	}
	return r.deps.Inboxes.Next(ctx)
}

// scan reads a part of a partition. What cannot be understood is counted and left out;
// what cannot be written ends the run.
func (r *inboxRun) scan(
	ctx context.Context, topic string, partition int32, begin, end int64, fn func(context.Context, event.Event) error, done func(),
) error {
	return r.deps.Topics.Scan(ctx, topic, partition, begin, end, func(msg *message.Message) error {
		defer done()
		r.result.Records++
		e, err := event.Decode(msg)
		if err == nil {
			err = fn(ctx, e)
		}
		switch {
		case err == nil:
		case errors.Is(err, event.ErrUnknownType), fault.KindOf(err) == fault.Permanent:
			r.result.leaveOut(r.deps.Log, msg.UUID, err)
		default:
			return err
		}
		return nil
	})
}
