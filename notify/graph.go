package notify

import (
	"context"
	"iter"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	"activityfeed/notify/device"
	pb "activityfeed/proto/activityfeed/v1"
)

// link returns the command that sets or ends an edge, seen from one user.
func (s *store) link(ctx context.Context, r relation, user, other string, id event.ID, on bool) *redis.IntCmd {
	set := "0"
	if on {
		set = "1"
	}
	return linkScript.Int(ctx, []string{r.key(user), r.endedKey(user)},
		other, id.String(), overrules(id).String(), set, s.remember().Milliseconds(), s.forget())
}

// overrules is the newest version of an edge that a fact may overrule.
func overrules(id event.ID) event.ID { return event.FirstID(id.Time().Add(clockSkew)) }

// remember is how long the end of an edge is remembered: also for as long as the
// row of its beginning is shown, so that who follows again is known for it.
func (s *store) remember() time.Duration { return max(s.cfg.TombstoneTTL, s.cfg.Retention) }

func (s *store) forget() string { return event.FirstID(s.now().Add(-s.remember())).String() }

// The levels of follow as its script knows them.
const (
	followAll  = "all"
	followNone = "none"
	followEnds = ""
)

// follow notes that follower follows followee, and which level they chose, or that
// they do not any more. With told, a new follower is put into the inbox of the
// followee.
func (s *store) follow(ctx context.Context, follower, followee string, id event.ID, level string, told bool) (inserted, error) {
	stored := ""
	if told && follower != followee {
		stored = row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_FOLLOW, actor: follower}.encode()
	}
	keys := []string{
		followers.key(followee), followers.endedKey(followee), subscribers.key(followee),
		blocks.key(followee), blockedBy.key(followee), mutes.key(followee),
		inboxKey(followee), watchedKey(followee), personKey(followee), device.Key(followee),
	}
	cmd := followScript.Int(ctx, keys, follower, id.String(), overrules(id).String(), level, s.remember().Milliseconds(), s.forget(),
		stored, s.cfg.InboxRows, s.cfg.Retention.Milliseconds(), packed(s.horizon()))
	err := s.exec(ctx, []redis.Cmder{cmd})
	return inserted(cmd.Val()), redisfault.Of(err, "note whether %s follows %s", follower, followee)
}

// block notes a block, or that it was lifted, on both sides.
func (s *store) block(ctx context.Context, actor, target string, id event.ID, on bool) error {
	err := s.exec(ctx, []redis.Cmder{
		s.link(ctx, blocks, actor, target, id, on),
		s.link(ctx, blockedBy, target, actor, id, on),
	})
	return redisfault.Of(err, "note a block of %s by %s", target, actor)
}

// mute notes a mute, or that it was lifted, on both sides.
func (s *store) mute(ctx context.Context, actor, target string, id event.ID, on bool) error {
	err := s.exec(ctx, []redis.Cmder{
		s.link(ctx, mutes, actor, target, id, on),
		s.link(ctx, mutedBy, target, actor, id, on),
	})
	return redisfault.Of(err, "note a mute of %s by %s", target, actor)
}

// deletedBatch is how many deletes of an author pass between two clean-ups, and
// about the size up to which Redis keeps them as 8-byte integers.
const deletedBatch = 256

// deletePost notes that an author took a post back. Posts too old to be in any
// inbox are forgotten again.
func (s *store) deletePost(ctx context.Context, author string, post event.ID) error {
	key := deletedKey(author)
	// A day more than any row about it is shown.
	ttl := s.cfg.Retention + day
	size := redis.NewIntCmd(ctx, "scard", key)
	err := s.exec(ctx, []redis.Cmder{
		redis.NewIntCmd(ctx, "sadd", key, int64(post)),
		redis.NewBoolCmd(ctx, "pexpire", key, ttl.Milliseconds()),
		size,
	})
	if err == nil && size.Val() > 0 && size.Val()%deletedBatch == 0 {
		err = s.forgetDeleted(ctx, key, event.FirstID(s.now().Add(-ttl)))
	}
	return redisfault.Of(err, "note a delete by %s", author)
}

func (s *store) forgetDeleted(ctx context.Context, key string, before event.ID) error {
	members := redis.NewStringSliceCmd(ctx, "smembers", key)
	if err := s.exec(ctx, []redis.Cmder{members}); err != nil {
		return err
	}
	old := []any{"srem", key}
	for _, member := range members.Val() {
		if id, err := strconv.ParseInt(member, 10, 64); err == nil && event.ID(id) < before {
			old = append(old, member)
		}
	}
	if len(old) == 2 {
		return nil
	}
	return s.exec(ctx, []redis.Cmder{redis.NewIntCmd(ctx, old...)})
}

// audience is what has to be known of an author before a post is told.
type audience struct {
	// deleted says that the post is already gone.
	deleted bool
	// hiding says that the author and somebody else do not see each other.
	hiding bool
	// subscribers yields those who wanted every post when this one was made, some
	// at a time, perhaps twice. It ends with the first error.
	subscribers iter.Seq2[[]string, error]
}

func (s *store) audience(ctx context.Context, author string, post, posted event.ID) (audience, error) {
	scan := func(cursor uint64) *redis.ScanCmd {
		return redis.NewScanCmd(ctx, nil, "hscan", subscribers.key(author), cursor, "count", s.cfg.PipelineSize)
	}
	deleted := redis.NewBoolCmd(ctx, "sismember", deletedKey(author), int64(post))
	hiding := existsCmd(ctx, author, unheardBy)
	first := scan(0)
	if err := s.exec(ctx, []redis.Cmder{deleted, hiding, first}); err != nil {
		return audience{}, redisfault.Of(err, "read the audience of %s", author)
	}
	return audience{
		deleted: deleted.Val(),
		hiding:  hiding.Val() > 0,
		subscribers: func(yield func([]string, error) bool) {
			for page := first; ; {
				edges, cursor := page.Val()
				if !yield(since(edges, posted), nil) || cursor == 0 {
					return
				}
				page = scan(cursor)
				if err := s.exec(ctx, []redis.Cmder{page}); err != nil {
					yield(nil, redisfault.Of(err, "read the audience of %s", author))
					return
				}
			}
		},
	}, nil
}

// since returns the users whose edge began before the post. A post that comes
// again, after a crash or out of poison, is not told to whom followed meanwhile.
func since(edges []string, posted event.ID) []string {
	limit := posted.String()
	users := make([]string, 0, len(edges)/2)
	for i := 0; i+1 < len(edges); i += 2 {
		if edges[i+1][:min(len(limit), len(edges[i+1]))] < limit {
			users = append(users, edges[i])
		}
	}
	return users
}

// existsCmd asks how many of a user's relations are not empty.
func existsCmd(ctx context.Context, user string, relations []relation) *redis.IntCmd {
	args := make([]any, 0, 1+len(relations))
	args = append(args, "exists")
	for _, r := range relations {
		args = append(args, r.key(user))
	}
	return redis.NewIntCmd(ctx, args...)
}

// heardBy returns those of the users who are told of what the actor does: all but
// those who block, are blocked by, or mute the actor.
func (s *store) heardBy(ctx context.Context, actor string, users []string) ([]string, error) {
	if len(users) == 0 {
		return nil, nil
	}
	hidden := memberships(ctx, actor, unheardBy, users)
	if err := s.exec(ctx, hidden); err != nil {
		return nil, redisfault.Of(err, "read who does not hear of %s", actor)
	}
	told := make([]string, 0, len(users))
	for i, user := range users {
		if !anyMember(hidden, i) {
			told = append(told, user)
		}
	}
	return told, nil
}

// memberships returns commands that look the others up in relations of a user.
func memberships(ctx context.Context, user string, relations []relation, others []string) []redis.Cmder {
	cmds := make([]redis.Cmder, 0, len(relations))
	for _, r := range relations {
		args := make([]any, 0, 2+len(others))
		args = append(args, "hmget", r.key(user))
		for _, other := range others {
			args = append(args, other)
		}
		cmds = append(cmds, redis.NewSliceCmd(ctx, args...))
	}
	return cmds
}

// anyMember says whether the i-th of the others is in one of the relations.
func anyMember(memberships []redis.Cmder, i int) bool {
	for _, cmd := range memberships {
		if found := cmd.(*redis.SliceCmd).Val(); i < len(found) && found[i] != nil { //nolint:forcetypeassert // made by memberships
			return true
		}
	}
	return false
}
