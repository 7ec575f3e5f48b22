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

	"activityfeed/internal/load/longrun"
)

const (
	// fewRecords is how many records may come while the last ones are added before the
	// new table takes its place; mostRounds bounds how often we run after more.
	fewRecords = 1000
	mostRounds = 10
	// finishTimeout bounds what must not be left half done, whoever stops us.
	finishTimeout = 5 * time.Minute
)

// NotInLog says what becomes of rows that a table has and the log has not.
type NotInLog string

const (
	// Refuse ends the rebuild and changes nothing.
	Refuse NotInLog = "refuse"
	// Keep carries them over.
	Keep NotInLog = "keep"
	// Drop loses them.
	Drop NotInLog = "drop"
)

// ErrNotInLog says that a table has rows which the log has not, and that nobody said
// what should become of them.
var ErrNotInLog = errors.New("the log has not all rows of the table")

// Table is a table that is made anew beside the one that serves; see analytics.Refill.
type Table interface {
	// Begin makes the new table.
	Begin(ctx context.Context) error
	// Add takes a record and says whether it is time to Flush; an error is the record's.
	Add(msg *message.Message) (full bool, err error)
	// Flush sends on its way what was added, Wait returns when all that is there.
	Flush(ctx context.Context) error
	Wait() error
	// Rest says what the table that serves has and the log before the ends has not, and
	// Keep carries these rows over.
	Rest(ctx context.Context, ends map[int32]int64) (rows int64, from, to time.Time, err error)
	Keep(ctx context.Context, rows int64, ends map[int32]int64) error
	// Swap puts the new table in the place of the old one; Late then carries over what
	// came into the old one since Begin from elsewhere than the topic. End drops the other.
	Swap(ctx context.Context) error
	Late(ctx context.Context) error
	End(ctx context.Context) error
}

// Rest is what a table has and the log has not.
type Rest struct {
	// Rows is how many, From and To when the first and the last of them was accepted.
	Rows     int64
	From, To time.Time
}

// RefillDeps are what a refill works with.
type RefillDeps struct {
	// Log is told what could not be read. Required.
	Log *slog.Logger
	// Name is that of the table, for people.
	Name string
	// Topics are read, and of them Topic. Both are required.
	Topics Topics
	Topic  string
	// Table is what is made anew. Required.
	Table Table
	// NotInLog is what becomes of rows that the log has not. Empty: Refuse.
	NotInLog NotInLog
}

// RefillResult says what a refill has done.
type RefillResult struct {
	Result

	// Rest are the rows that the log had not, which were kept or dropped.
	Rest Rest
}

// Refill makes a table anew from its topic while it serves, and returns when it has
// every record that the log had at the end. Progress goes to out. The error is
// ErrNotInLog, and nothing has changed, where the log has not all rows and
// NotInLog is Refuse.
func Refill(ctx context.Context, cfg Config, deps RefillDeps, out io.Writer) (RefillResult, error) {
	r := &refill{cfg: cfg, deps: deps, out: out}
	err := r.result.timed("rebuild "+deps.Name, func() error { return r.all(ctx) })
	return r.result, err
}

type refill struct {
	cfg    Config
	deps   RefillDeps
	out    io.Writer
	result RefillResult
	// at is up to where the records of each partition were added.
	at    map[int32]int64
	bar   *longrun.Bar
	steps steps
}

func (r *refill) all(ctx context.Context) (err error) {
	table := r.deps.Table
	// Who stops us does not want to find a table lying about.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		err = errors.Join(err, table.End(ctx))
	}()
	if err := table.Begin(ctx); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return errors.Join(err, table.Wait())
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	for range mostRounds {
		n, err := r.more(ctx)
		if err != nil {
			return errors.Join(err, table.Wait())
		}
		if n < fewRecords {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// From here to the end we are not to be stopped: what the consumer has written to
	// the old table since the last look is missing from the new one until we add it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := table.Swap(ctx); err != nil {
		return err
	}
	if _, err := r.more(ctx); err != nil {
		return errors.Join(fmt.Errorf("the new table serves, and lacks rows of the last moments; run this again: %w", err), table.Wait())
	}
	return table.Late(ctx)
}

// fill adds all that the log has.
func (r *refill) fill(ctx context.Context) error {
	log, err := extentOf(ctx, r.deps.Topics, r.deps.Topic)
	if err != nil {
		return err
	}
	r.at = log.starts
	r.bar = r.cfg.bar(r.out, r.deps.Name, log.records, r.steps.note)
	defer r.bar.Stop()
	return r.add(ctx, log.ends)
}

// more adds what has come since, and returns how much it was.
func (r *refill) more(ctx context.Context) (int64, error) {
	ends, err := r.deps.Topics.EndOffsets(ctx, r.deps.Topic)
	if err != nil {
		return 0, err
	}
	before := r.result.Records
	err = r.add(ctx, ends)
	return r.result.Records - before, err
}

// add adds what lies before the ends, and returns when it is in the table.
func (r *refill) add(ctx context.Context, ends map[int32]int64) error {
	for i, partition := range slices.Sorted(maps.Keys(ends)) {
		r.steps.tell(fmt.Sprintf("partition %d of %d", i+1, len(ends)))
		if r.at[partition] >= ends[partition] {
			continue
		}
		err := r.deps.Topics.Scan(ctx, r.deps.Topic, partition, r.at[partition], ends[partition], func(msg *message.Message) error {
			return r.one(ctx, msg)
		})
		if err == nil {
			err = r.deps.Table.Flush(ctx)
		}
		if err != nil {
			return err
		}
		r.at[partition] = ends[partition]
	}
	return r.deps.Table.Wait()
}

func (r *refill) one(ctx context.Context, msg *message.Message) error {
	r.bar.Add(1)
	r.result.Records++
	full, err := r.deps.Table.Add(msg)
	switch {
	case err != nil:
		r.result.leaveOut(r.deps.Log, msg.UUID, err)
	case full:
		return r.deps.Table.Flush(ctx)
	}
	return nil
}

// rest looks for what the log has not.
func (r *refill) rest(ctx context.Context) (err error) {
	table := r.deps.Table
	rest := &r.result.Rest
	if rest.Rows, rest.From, rest.To, err = table.Rest(ctx, r.at); err != nil || rest.Rows == 0 {
		return err
	}
	switch r.deps.NotInLog {
	case Keep:
		return table.Keep(ctx, rest.Rows, r.at)
	case Drop:
		return nil
	case Refuse:
	}
	return fmt.Errorf("%w: %s of %s, accepted from %s to %s; nothing was changed. --not-in-log=keep carries them over, --not-in-log=drop loses them",
		ErrNotInLog, longrun.Count(rest.Rows), r.deps.Name, rest.From.UTC().Format(time.DateTime), rest.To.UTC().Format(time.DateTime))
}
