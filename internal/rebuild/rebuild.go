package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/load/longrun"
)

// chunk is how many facts are taken at once in the second reading.
const chunk = 1000

// Config says how a rebuild goes. Its tags are those of the command line.
type Config struct {
	// Terminal draws a moving progress bar; false prints plain lines.
	Terminal bool `kong:"-"`

	// Rate is how many commands a second go to Redis at most. Default 20,000, a
	// fraction of what one Redis does; zero or negative: no limit.
	Rate int `help:"Commands a second to Redis at most; 0 for no limit." default:"20000"`
	// ProgressInterval is the time between plain progress lines. Default and zero: 5 s.
	ProgressInterval time.Duration `help:"Time between progress lines when the output is no terminal." default:"5s"`
}

// Projection is what a service keeps of the log, being made anew; see feed.Restore.
type Projection interface {
	// Fold remembers a fact of the partition that is read first.
	Fold(e event.Event) error
	// Settle writes what was remembered.
	Settle(ctx context.Context) error
	// Take takes facts of the partition again.
	Take(ctx context.Context, facts []event.Event) error
	// Next ends a partition.
	Next()
	// Users is how often Finish will call done.
	Users() int
	// Finish ends the work after the last partition.
	Finish(ctx context.Context, done func()) error
}

// Deps are what a rebuild works with.
type Deps struct {
	// Log is told what could not be read. Required.
	Log *slog.Logger
	// Ends returns the end of each partition of the log. Required.
	Ends func(ctx context.Context) (map[int32]int64, error)
	// Scan reads a partition from its beginning to an end. Required.
	Scan func(ctx context.Context, partition int32, end int64, fn func(*message.Message) error) error
	// Projection is what is made anew. Required.
	Projection Projection
}

// Result says what a rebuild has read.
type Result struct {
	// Records is how many records the log had; of these, Bad cannot be read or say
	// the impossible, and Unknown are of a type that this version does not know.
	Records, Bad, Unknown int64
	Elapsed               time.Duration
}

// Run makes the projection anew and returns when it is. Progress goes to out.
func Run(ctx context.Context, cfg Config, deps Deps, out io.Writer) (Result, error) {
	r := &run{cfg: cfg, deps: deps, out: out}
	start := time.Now()
	err := r.all(ctx)
	r.result.Elapsed = time.Since(start)
	if err != nil {
		return r.result, fmt.Errorf("rebuild: %w", err)
	}
	return r.result, nil
}

type run struct {
	cfg    Config
	deps   Deps
	out    io.Writer
	result Result
	// step is what is done at the moment, for the progress line.
	step atomic.Pointer[string]
}

func (r *run) all(ctx context.Context) error {
	ends, err := r.deps.Ends(ctx)
	if err != nil {
		return err
	}
	var total int64
	for _, end := range ends {
		total += 2 * end
	}
	bar := longrun.StartBar(r.out, longrun.BarConfig{
		Title: "rebuild", Total: total, Terminal: r.cfg.Terminal, Interval: r.cfg.ProgressInterval, Note: r.note,
	})
	defer bar.Stop()
	for i, partition := range slices.Sorted(maps.Keys(ends)) {
		name := fmt.Sprintf("partition %d of %d", i+1, len(ends))
		if err := r.partition(ctx, name, partition, ends[partition], bar); err != nil {
			return err
		}
	}
	bar.Stop()

	p := r.deps.Projection
	feeds := longrun.StartBar(r.out, longrun.BarConfig{
		Title: "feeds", Total: int64(p.Users()), Terminal: r.cfg.Terminal, Interval: r.cfg.ProgressInterval,
	})
	defer feeds.Stop()
	return p.Finish(ctx, func() { feeds.Add(1) })
}

// partition reads a partition twice. Both readings end at the same place, so that
// none of its facts is half known.
func (r *run) partition(ctx context.Context, name string, partition int32, end int64, bar *longrun.Bar) error {
	p := r.deps.Projection
	r.tell(name + ": read")
	err := r.deps.Scan(ctx, partition, end, func(msg *message.Message) error {
		defer bar.Add(1)
		r.result.Records++
		e, err := event.Decode(msg)
		if err == nil {
			err = p.Fold(e)
		}
		switch {
		case errors.Is(err, event.ErrUnknownType):
			r.result.Unknown++
		case err != nil:
			r.result.Bad++
			r.deps.Log.Debug("rebuild leaves a record out", "event_id", msg.UUID, "err", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.tell(name + ": write what holds")
	if err := p.Settle(ctx); err != nil {
		return err
	}
	r.tell(name + ": write posts")
	facts := make([]event.Event, 0, chunk)
	flush := func() error {
		err := p.Take(ctx, facts)
		facts = facts[:0]
		return err
	}
	err = r.deps.Scan(ctx, partition, end, func(msg *message.Message) error {
		defer bar.Add(1)
		e, err := event.Decode(msg)
		if err != nil {
			return nil // counted at the first reading
		}
		if facts = append(facts, e); len(facts) < chunk {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	p.Next()
	return err
}

func (r *run) tell(step string) { r.step.Store(&step) }

func (r *run) note() string {
	if step := r.step.Load(); step != nil {
		return *step
	}
	return ""
}
