package notify

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
	"unique"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// restoresAtOnce is how many writes are under way at once.
	restoresAtOnce = 64
	// restorePatience is how long a write may fail because Redis is away, which a
	// failover is for some seconds; restorePause is the first pause between two tries.
	restorePatience = 2 * time.Minute
	restorePause    = 50 * time.Millisecond
)

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
	follows  map[name]map[name]*follow
	waiting  []told

	counts struct{ settings, edges, deletes, rows atomic.Int64 }
}

// RestoreCounts is what a [Restore] has written so far.
type RestoreCounts struct {
	// Settings are devices, preferences and marks; Edges follows, blocks and mutes,
	// also those that ended; Deletes the deleted posts that could be in an inbox; Rows
	// those that were missing in an inbox.
	Settings, Edges, Deletes, Rows int64
}

type (
	// name is a user: maps of names hold each once.
	name = unique.Handle[string]
	// hidingKey is a block or a mute of one user by another.
	hidingKey struct {
		mute          bool
		actor, target name
	}
	change struct {
		id event.ID
		on bool
	}
	deletedPost struct {
		author name
		post   event.ID
	}
	// follow is an edge as lua/edge.lua keeps it, and what was told of it.
	follow struct {
		since, version event.ID
		live, again    bool
		// every is since when every post is wanted, 0 if not.
		every event.ID
		// row is the newest row that tells of it.
		row event.ID
	}
	// told is a row for one user.
	told struct {
		user string
		row  row
	}
)

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

// Hide remembers a block, a mute or a delete.
func (r *Restore) Hide(e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.UserBlocked:
		r.hide(false, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnblocked:
		r.hide(false, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.UserMuted:
		r.hide(true, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnmuted:
		r.hide(true, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.PhotoDeleted:
		post, err := event.ParseID(d.GetPostId())
		if err != nil {
			return fault.Poison(event.ReasonInvalid, err)
		}
		// A row about it is older than the delete.
		if e.ID >= r.n.handler.store.horizon() {
			r.deleted[deletedPost{unique.Make(d.GetAuthorId()), post}] = struct{}{}
		}
	}
	return nil
}

func (r *Restore) hide(mute bool, actor, target string, id event.ID, on bool) {
	if !r.concerns(actor) && !r.concerns(target) {
		return
	}
	key := hidingKey{mute, unique.Make(actor), unique.Make(target)}
	changes := r.hidings[key]
	if len(changes) > 0 && changes[len(changes)-1].id > overrules(id) {
		return // as lua/edge.lua
	}
	r.hidings[key] = append(changes, change{id, on})
}

// SettleHidden writes what Hide remembers, as it is in the end.
func (r *Restore) SettleHidden(ctx context.Context) error {
	g, ctx := r.workers(ctx)
	s := r.n.handler.store
	for key, changes := range r.hidings {
		actor, target, last := key.actor.Value(), key.target.Value(), changes[len(changes)-1]
		r.counts.edges.Add(1)
		g.Go(func() error {
			return r.write(ctx, 2, func() error {
				if key.mute {
					return s.mute(ctx, actor, target, last.id, last.on)
				}
				return s.block(ctx, actor, target, last.id, last.on)
			})
		})
	}
	for d := range r.deleted {
		r.counts.deletes.Add(1)
		g.Go(func() error {
			return r.write(ctx, 3, func() error { return s.deletePost(ctx, d.author.Value(), d.post) })
		})
	}
	return g.Wait()
}

// Take tells of a post or a new follower in the inboxes. Facts of a partition come in
// their order.
func (r *Restore) Take(ctx context.Context, e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		if err := r.post(e.ID, d.GetPhoto()); err != nil {
			return err
		}
	case *pb.UserFollowed:
		r.follow(e.ID, d)
	case *pb.UserUnfollowed:
		if f := r.edge(d.GetFollowerId(), d.GetFolloweeId()); f.counts(e.ID) {
			*f = follow{version: e.ID, again: true, row: f.row}
		}
	}
	if len(r.waiting) < r.n.cfg.PipelineSize {
		return nil
	}
	return r.flush(ctx)
}

func (r *Restore) post(id event.ID, photo *pb.Photo) error {
	author := photo.GetAuthorId()
	post, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return fault.Poison(event.ReasonInvalid, err)
	}
	by := unique.Make(author)
	if _, gone := r.deleted[deletedPost{by, post}]; gone || id < r.n.handler.store.horizon() {
		return nil
	}
	// Mentions first: a mention wins over the post.
	for _, user := range photo.GetMentions() {
		r.tell(user, row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_MENTION, actor: author, post: post})
	}
	for user, f := range r.follows[by] {
		if f.live && f.every != 0 && f.every < id {
			r.tell(user.Value(), row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_POST, actor: author, post: post})
		}
	}
	return nil
}

func (r *Restore) follow(id event.ID, d *pb.UserFollowed) {
	f := r.edge(d.GetFollowerId(), d.GetFolloweeId())
	if f.counts(id) {
		if !f.live {
			f.live, f.since = true, id
		}
		f.version = id
		switch {
		case !r.n.handler.wantsEvery(d.GetNotificationLevel()):
			f.every = 0
		case f.every == 0:
			f.every = id
		}
	}
	horizon := r.n.handler.store.horizon()
	// Who follows again is one follower, for as long as the first row is there.
	if !f.live || f.since != id || id < horizon || (f.row >= horizon && f.row != id) {
		return
	}
	if r.tell(d.GetFolloweeId(), row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_FOLLOW, actor: d.GetFollowerId()}) {
		f.row = id
	}
}

// counts says whether a fact of that id overrules what is known, as lua/edge.lua does.
func (f *follow) counts(id event.ID) bool { return f.version <= overrules(id) }

func (r *Restore) edge(follower, followee string) *follow {
	of := unique.Make(followee)
	if r.follows[of] == nil {
		r.follows[of] = map[name]*follow{}
	}
	by := unique.Make(follower)
	f := r.follows[of][by]
	if f == nil {
		f = &follow{}
		r.follows[of][by] = f
	}
	return f
}

// tell has a row written, unless the two did not see each other then, or the user is
// the actor. It says whether the user was told.
func (r *Restore) tell(user string, w row) bool {
	if user == w.actor || r.hidden(user, w.actor, w.id) {
		return false
	}
	if r.concerns(user) {
		r.waiting = append(r.waiting, told{user, w})
	}
	return true
}

// hidden says whether a user did not hear of an actor at the time of an event.
func (r *Restore) hidden(user, actor string, id event.ID) bool {
	if len(r.hidings) == 0 {
		return false
	}
	u, a := unique.Make(user), unique.Make(actor)
	for _, key := range []hidingKey{{false, u, a}, {false, a, u}, {true, u, a}} {
		on := false
		for _, c := range r.hidings[key] {
			if c.id < id {
				on = c.on
			}
		}
		if on {
			return true
		}
	}
	return false
}

// flush writes the rows that wait, in their order.
func (r *Restore) flush(ctx context.Context) error {
	for chunk := range slices.Chunk(r.waiting, r.n.cfg.PipelineSize) {
		err := r.write(ctx, len(chunk), func() error {
			added, err := r.n.handler.store.insertRows(ctx, chunk)
			r.counts.rows.Add(int64(added))
			return err
		})
		if err != nil {
			return err
		}
	}
	r.waiting = r.waiting[:0]
	return nil
}

// SettleFollows writes the rows that wait, then the follows of the partition.
func (r *Restore) SettleFollows(ctx context.Context) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	g, ctx := r.workers(ctx)
	for followee, edges := range r.follows {
		for follower, f := range edges {
			if f.version == 0 || (!r.concerns(followee.Value()) && !r.concerns(follower.Value())) {
				continue
			}
			stands := *f
			r.counts.edges.Add(1)
			g.Go(func() error {
				return r.write(ctx, 1, func() error {
					return r.n.handler.store.refollow(ctx, follower.Value(), followee.Value(), stands)
				})
			})
		}
	}
	return g.Wait()
}

// Next ends a partition.
func (r *Restore) Next(ctx context.Context) error {
	clear(r.follows)
	return r.flush(ctx)
}

func (r *Restore) concerns(user string) bool { return r.only == nil || r.only[user] }

// write does the work when that many commands may go, and again while Redis is away.
func (r *Restore) write(ctx context.Context, commands int, work func() error) error {
	begin := r.n.deps.Now()
	for pause := restorePause; ; pause = min(2*pause, time.Second) {
		if err := r.pace(ctx, commands); err != nil {
			return err
		}
		err := work()
		if fault.KindOf(err) != fault.Unavailable || ctx.Err() != nil || r.n.deps.Now().Sub(begin) > restorePatience {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func (r *Restore) workers(ctx context.Context) (*errgroup.Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(restoresAtOnce)
	return g, ctx
}

// insertRows adds rows to inboxes, in their order, and returns how many were new.
func (s *store) insertRows(ctx context.Context, rows []told) (added int, err error) {
	cmds := make([]redis.Cmder, len(rows))
	for i, t := range rows {
		cmds[i] = s.insertCmd(ctx, t.user, t.row.encode())
	}
	err = s.exec(ctx, cmds)
	for _, cmd := range cmds {
		if inserted(cmd.(*redis.IntCmd).Val()).added() { //nolint:forcetypeassert // made above
			added++
		}
	}
	return added, redisfault.Of(err, "restore %d rows", len(rows))
}

// refollow writes a follow as the log has it.
func (s *store) refollow(ctx context.Context, follower, followee string, f follow) error {
	value, every, remember := "", "", s.remember().Milliseconds()
	switch {
	case f.live && f.again:
		value = f.since.String() + ";" + f.version.String()
	case f.live && f.since != f.version:
		value = f.since.String() + "," + f.version.String()
	case f.live:
		value = f.since.String()
	case f.version.String() < s.forget():
		remember = 0
	}
	if f.every != 0 {
		every = f.every.String()
	}
	cmd := refollowScript.Int(ctx, []string{followers.key(followee), followers.endedKey(followee), subscribers.key(followee)},
		follower, f.version.String(), value, every, remember)
	return redisfault.Of(s.exec(ctx, []redis.Cmder{cmd}), "restore whether %s follows %s", follower, followee)
}
