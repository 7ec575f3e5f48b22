package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/load/longrun"
	pb "activityfeed/proto/activityfeed/v1"
)

// Deps are what an audit looks at.
type Deps struct {
	// Log is told what goes on and takes long. Required.
	Log *slog.Logger
	// Tail follows the topic "activity" from its beginning (a kafka.Tail). Required.
	Tail tail
	// History gives, in the order of the log, the events of a store that goes back
	// further than the log; an error beside an event says that what a post shows was not
	// kept, an error alone that one cannot be read. Nil: the log has everything.
	History func(ctx context.Context, fn func(event.Event, error) error) error
	// Lag tells how far consumer groups are behind (a kafka.Admin). Required.
	Lag lagger
	// Feed serves the feeds. Required.
	Feed pb.FeedServiceClient
	// Stored counts the events in the analytics table by type ("PhotoPosted"). Nil:
	// counts are not compared.
	Stored func(ctx context.Context) (map[string]int64, error)
	// Drift receives every difference as a line of JSON, see [Difference].
	// Nil: none.
	Drift io.Writer
	// Repair makes anew, from the log, what is kept of the users. Nil: nothing is
	// repaired.
	Repair func(ctx context.Context, users []string) error
}

// tail follows a log.
type tail interface {
	// Run gives fn the records of the log, one after the other, until ctx ends.
	Run(ctx context.Context, fn func(*message.Message) error) error
	// CaughtUp returns when fn has had all that was in the log at the call.
	CaughtUp(ctx context.Context) error
}

// lagger knows how many records of a topic a group has not committed.
type lagger interface {
	Lag(ctx context.Context, group, topic string) (int64, error)
}

// ErrExport says that the audit was done and that Deps.Drift did not take all of it.
var ErrExport = errors.New("export drift")

// Run audits and returns what it found; how far it is goes to progress.
// Differences are no error: see [Report.Clean]. An error says that the audit
// could not be done: a wrong setting, no log, a server that is away or a consumer
// that makes no progress for longer than Config.Patience, or the end of ctx. The
// report then tells how far it came. Only with [ErrExport] is it whole.
func Run(ctx context.Context, cfg Config, deps Deps, progress io.Writer) (Report, error) {
	a, err := newAuditor(cfg, deps, progress)
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	if err := a.following(ctx, a.round); err != nil {
		return a.report, fmt.Errorf("audit: %w", err)
	}
	return a.report, a.driftErr
}

func newAuditor(cfg Config, deps Deps, progress io.Writer) (*auditor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	a := &auditor{cfg: cfg, deps: deps, progress: progress, model: NewModel(), tally: newTally()}
	a.patience = longrun.Patience{Timeout: cfg.CallTimeout, Total: cfg.Patience, Retried: a.retries.Add}
	return a, nil
}

// following does the work while the model follows the log.
func (a *auditor) following(ctx context.Context, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	var replay sync.WaitGroup
	replay.Go(func() {
		err := a.history(ctx)
		if err == nil {
			// Until it runs, nobody is caught up.
			err = a.deps.Tail.Run(ctx, a.apply)
		}
		if err == nil {
			err = errors.New("it ended")
		}
		stop(fmt.Errorf("replay the log: %w", err)) // the first cause counts: an ordinary end came before
	})
	err := work(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // who ended it says more than who noticed
	}
	stop(nil)
	replay.Wait()
	return err
}

// round is one audit; the report is of the last one.
func (a *auditor) round(ctx context.Context) error {
	start := time.Now()
	a.report, a.drifted = Report{Differences: make(map[Kind]int64)}, nil
	defer func() { a.report.Elapsed = time.Since(start) }()
	return a.audit(ctx)
}

// auditor audits.
type auditor struct {
	cfg      Config
	deps     Deps
	progress io.Writer
	patience longrun.Patience
	retries  longrun.Retries

	// mu guards what the replay writes.
	mu    sync.RWMutex
	model *Model
	tally *tally

	report   Report
	driftErr error
	// drifted are the differences of feeds that a repair is about; while it reads the
	// feeds again, repairing is true, and nothing is exported.
	drifted   []Difference
	repairing bool
}

func (a *auditor) audit(ctx context.Context) error {
	if err := a.replay(ctx); err != nil {
		return err
	}
	if err := a.feeds(ctx, a.users()); err != nil {
		return err
	}
	if err := a.repair(ctx); err != nil {
		return err
	}
	return a.counts(ctx)
}

// users draws the users to look at.
func (a *auditor) users() []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	users := a.model.Users() // sorted, so a seed draws the same whatever the partitions' order
	if n := a.cfg.Users; n > 0 && n < len(users) {
		rng := rand.New(rand.NewPCG(a.cfg.Seed, 0))
		rng.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
		users = users[:n]
	}
	return users
}

// found counts a difference, exports it, and keeps the first ones as examples. It
// must not run twice at a time.
func (a *auditor) found(d Difference) {
	a.report.Differences[d.Kind]++
	if a.repairing {
		return
	}
	if a.deps.Repair != nil && d.Kind != Reposted && d.Kind != Healed {
		a.drifted = append(a.drifted, d)
	}
	if len(a.report.Examples) < a.cfg.Examples {
		a.report.Examples = append(a.report.Examples, d)
	}
	if a.deps.Drift == nil || a.driftErr != nil {
		return
	}
	if err := json.NewEncoder(a.deps.Drift).Encode(d); err != nil {
		a.driftErr = fmt.Errorf("audit: %w: %w", ErrExport, err)
	}
}

func (a *auditor) applied() int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.tally.records + a.tally.stored
}

func (a *auditor) home(user string) []Post {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.model.Home(user)
}

func (a *auditor) explain(user string) func(string, event.ID) string {
	return func(author string, id event.ID) string {
		a.mu.RLock()
		defer a.mu.RUnlock()
		return a.model.Explain(user, author, id)
	}
}
