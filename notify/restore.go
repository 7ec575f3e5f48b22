package notify

import (
	"context"
	"sync/atomic"
	"unique"

	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

// restoresAtOnce is how many writes are under way at once.
const restoresAtOnce = 64

// Restore makes what notify keeps in Redis anew from the log, while it serves and is
// written all the while:
//
//	Account each fact of the topic "account"; SettleAccount
//	Hide each fact of the log;                SettleHidden
//	for each partition of the log:
//	    Take each fact; SettleFollows; Take what came meanwhile; Next
//
// Devices, preferences and marks come first, since rows are written by them; then
// blocks, mutes and deletes with their times, so that what was done during a block is
// not told and what has ended does not show again; then the rows, by the levels that
// followers had at the time. What came meanwhile was handled while the followers were
// not there: so it is taken too. Follows are written as they are in the end.
//
// Each write yields to what the consumer has made of newer facts, and may be repeated.
// Nothing is pushed: what is in the log was pushed before, or is the consumer's to
// push when it comes to it. What the log does not have does not come back: the last
// outcomes of devices, pushes that waited, how often who was pushed to; and rows are
// made by the preferences of today.
//
// It takes about 200 bytes for each follow of a partition, and as much for each block,
// mute and delete. A Restore is not safe for concurrent use.
type Restore struct {
	n *Notify
	// only holds those whom it is about; nil means all.
	only map[string]bool
	pace func(ctx context.Context, commands int) error

	accounts map[string]event.Event
	hidings  map[hidingKey][]change
	deleted  map[deletedPost]struct{}
	// follows are those of the partition, by followee and follower.
	follows map[name]map[name]*follow
	// waiting are rows to write.
	waiting []told

	counts struct{ settings, edges, deletes, rows atomic.Int64 }
}

// RestoreCounts is what a [Restore] has written so far.
type RestoreCounts struct {
	// Settings are devices, preferences and marks; Edges follows, blocks and mutes,
	// also those that ended; Deletes the deleted posts that could be in an inbox; Rows
	// those that were missing in an inbox.
	Settings, Edges, Deletes, Rows int64
}

// name is a user: maps of names hold each once.
type name = unique.Handle[string]

// Restore returns a Restore of what concerns the users named, or of everything if
// none is. pace is asked before commands go to Redis; nil means at full speed.
func (n *Notify) Restore(only []string, pace func(ctx context.Context, commands int) error) *Restore {
	if pace == nil {
		pace = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	r := &Restore{
		n: n, pace: pace, accounts: map[string]event.Event{}, hidings: map[hidingKey][]change{},
		deleted: map[deletedPost]struct{}{}, follows: map[name]map[name]*follow{},
	}
	if len(only) > 0 {
		r.only = map[string]bool{}
		for _, user := range only {
			r.only[user] = true
		}
	}
	return r
}

// Counts returns what was written so far.
func (r *Restore) Counts() RestoreCounts {
	return RestoreCounts{r.counts.settings.Load(), r.counts.edges.Load(), r.counts.deletes.Load(), r.counts.rows.Load()}
}

// Account remembers what somebody set, the newest of each device and person.
func (r *Restore) Account(e event.Event) error {
	owner, ok := e.Data.(interface{ GetUserId() string })
	key, err := event.Key(e.Data)
	if err != nil || !ok {
		return err
	}
	if _, position := e.Data.(*pb.UserSawFeed); !position && r.concerns(owner.GetUserId()) && r.accounts[key].ID < e.ID {
		r.accounts[key] = e
	}
	return nil
}

// SettleAccount writes what Account remembers.
func (r *Restore) SettleAccount(ctx context.Context) error {
	g, ctx := r.workers(ctx)
	for _, e := range r.accounts {
		g.Go(func() error {
			r.counts.settings.Add(1)
			return r.write(ctx, 3, func() error {
				if marked, ok := e.Data.(*pb.InboxMarked); ok {
					// Also when the mark is known: rows that were lost are marked again.
					return r.n.handler.restoreMarks(ctx, e.ID, marked, true)
				}
				return r.n.handler.account(ctx, e)
			})
		})
	}
	clear(r.accounts)
	return g.Wait()
}

func (r *Restore) concerns(user string) bool { return r.only == nil || r.only[user] }

// write does the work when that many commands may go, and again while Redis is away.
func (r *Restore) write(ctx context.Context, commands int, work func() error) error {
	return redisfault.Outlast(ctx, r.n.deps.Now, func() error {
		if err := r.pace(ctx, commands); err != nil {
			return err
		}
		return work()
	})
}

func (r *Restore) workers(ctx context.Context) (*errgroup.Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(restoresAtOnce)
	return g, ctx
}
