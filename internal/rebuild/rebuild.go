package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
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

	// Waiting says what is waited for at the moment; it stands in the lines of progress.
	// Empty, or a nil Waiting: nothing.
	Waiting func() string `kong:"-"`

	// Rate is how many commands a second go to Redis at most. Default 20,000, a
	// fraction of what one Redis does; zero: no limit.
	Rate int `help:"Commands a second to Redis at most; 0 for no limit." default:"20000"`
	// ProgressInterval is the time between plain progress lines. Default and zero: 5 s.
	ProgressInterval time.Duration `help:"Time between progress lines when the output is no terminal." default:"5s"`
}

// Validate returns all faults of the settings, joined.
func (c Config) Validate() error {
	var faults []error
	if c.Rate < 0 {
		faults = append(faults, fmt.Errorf("rate: %d is negative; 0 is no limit", c.Rate))
	}
	if c.ProgressInterval < 0 {
		faults = append(faults, fmt.Errorf("progress-interval: %s is negative", c.ProgressInterval))
	}
	return errors.Join(faults...)
}

// bar starts a progress bar; step may be nil.
func (c Config) bar(out io.Writer, title string, total int64, step func() string) *longrun.Bar {
	note := func() string {
		if c.Waiting != nil {
			if what := c.Waiting(); what != "" {
				return what
			}
		}
		if step == nil {
			return ""
		}
		return step()
	}
	return longrun.StartBar(out, longrun.BarConfig{
		Title: title, Total: total, Terminal: c.Terminal, Interval: c.ProgressInterval, Note: note,
	})
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
	// Topics are read. Required.
	Topics Topics
	// History has what the log has forgotten; it is read before the log. Nil: the log
	// has everything.
	History History
	// Projection is what is made anew. Required.
	Projection Projection
}

// History is a store of the log's facts that goes back further than the log; see
// analytics.History. It may lack the newest, and have what the log has too.
type History interface {
	// Partitions returns how many facts it has of each partition.
	Partitions(ctx context.Context) (map[int32]int64, error)
	// Facts gives the facts of a partition in the order of the log, of posts only their
	// author and id; Posts gives the posts whole. An error given instead says that this
	// one cannot be read.
	Facts(ctx context.Context, partition int32, fn func(event.Event, error) error) error
	Posts(ctx context.Context, partition int32, fn func(event.Event, error) error) error
}

// Result says what a rebuild has read.
type Result struct {
	// Records is how many records the log had; of these, Bad cannot be read or say
	// the impossible, and Unknown are of a type that this version does not know.
	Records, Bad, Unknown int64
	// Stored is how many facts the history had, and Lost how many posts of these cannot
	// be made anew, because what they show was not kept.
	Stored, Lost int64
	Elapsed      time.Duration
}

// timed does the work and notes how long it took; its error gains what was done.
func (r *Result) timed(what string, work func() error) error {
	start := time.Now()
	err := work()
	r.Elapsed = time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Run makes the projection anew and returns when it is. Progress goes to out.
func Run(ctx context.Context, cfg Config, deps Deps, out io.Writer) (Result, error) {
	r := &run{cfg: cfg, deps: deps, out: out}
	err := r.result.timed("rebuild", func() error { return r.all(ctx) })
	return r.result, err
}

type run struct {
	cfg    Config
	deps   Deps
	out    io.Writer
	result Result
	steps  steps
}

func (r *run) all(ctx context.Context) error {
	log, err := extentOf(ctx, r.deps.Topics, event.Topic)
	if err != nil {
		return err
	}
	stored := map[int32]int64{}
	if r.deps.History != nil {
		if stored, err = r.deps.History.Partitions(ctx); err != nil {
			return err
		}
	}
	total := 2 * log.records
	for _, n := range stored {
		total += n
	}
	partitions := slices.AppendSeq(slices.Collect(maps.Keys(stored)), maps.Keys(log.ends))
	slices.Sort(partitions)
	partitions = slices.Compact(partitions)
	bar := r.cfg.bar(r.out, "rebuild", total, r.steps.note)
	defer bar.Stop()
	for i, partition := range partitions {
		name := fmt.Sprintf("partition %d of %d", i+1, len(partitions))
		if err := r.partition(ctx, name, partition, log.ends[partition], bar); err != nil {
			return err
		}
	}
	bar.Stop()

	p := r.deps.Projection
	feeds := r.cfg.bar(r.out, "feeds", int64(p.Users()), nil)
	defer feeds.Stop()
	return p.Finish(ctx, func() { feeds.Add(1) })
}

// partition reads a partition twice. Both readings end at the same place, so that
// none of its facts is half known.
func (r *run) partition(ctx context.Context, name string, partition int32, end int64, bar *longrun.Bar) error {
	p := r.deps.Projection
	r.steps.tell(name + ": read")
	if err := r.foldHistory(ctx, partition, bar); err != nil {
		return err
	}
	err := r.scan(ctx, partition, end, func(msg *message.Message) error {
		defer bar.Add(1)
		r.result.Records++
		e, err := event.Decode(msg)
		if err == nil {
			err = p.Fold(e)
		}
		if err != nil {
			r.result.leaveOut(r.deps.Log, msg.UUID, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.steps.tell(name + ": write what holds")
	if err := p.Settle(ctx); err != nil {
		return err
	}
	r.steps.tell(name + ": write posts")
	facts := make([]event.Event, 0, chunk)
	flush := func() error {
		err := p.Take(ctx, facts)
		facts = facts[:0]
		return err
	}
	take := func(e event.Event) error {
		if facts = append(facts, e); len(facts) < chunk {
			return nil
		}
		return flush()
	}
	if err := r.takeHistory(ctx, partition, take); err != nil {
		return err
	}
	err = r.scan(ctx, partition, end, func(msg *message.Message) error {
		defer bar.Add(1)
		e, err := event.Decode(msg)
		if err != nil {
			return nil // counted at the first reading
		}
		return take(e)
	})
	if err == nil {
		err = flush()
	}
	p.Next()
	return err
}

// scan reads what the log has of a partition.
func (r *run) scan(ctx context.Context, partition int32, end int64, fn func(*message.Message) error) error {
	if end == 0 {
		return nil // the history alone knows of it, or there is nothing yet
	}
	return r.deps.Topics.Scan(ctx, event.Topic, partition, 0, end, fn)
}

// foldHistory is the first reading of what the history has of a partition. What the
// log has too comes again after it, in order up to the log's end, and so changes
// nothing: the last facts decide, and they are the same.
func (r *run) foldHistory(ctx context.Context, partition int32, bar *longrun.Bar) error {
	if r.deps.History == nil {
		return nil
	}
	return r.deps.History.Facts(ctx, partition, func(e event.Event, err error) error {
		bar.Add(1)
		r.result.Stored++
		if err == nil {
			err = r.deps.Projection.Fold(e)
		}
		if err != nil {
			r.result.leaveOut(r.deps.Log, e.ID.String(), err)
		}
		return nil
	})
}

// takeHistory is the second reading.
func (r *run) takeHistory(ctx context.Context, partition int32, take func(event.Event) error) error {
	if r.deps.History == nil {
		return nil
	}
	return r.deps.History.Posts(ctx, partition, func(e event.Event, err error) error {
		if err == nil {
			return take(e)
		}
		r.result.Lost++
		return nil
	})
}
