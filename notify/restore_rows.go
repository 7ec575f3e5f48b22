package notify

import (
	"context"
	"slices"
	"unique"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

type (
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
		case !wantsEvery(d.GetNotificationLevel()):
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
