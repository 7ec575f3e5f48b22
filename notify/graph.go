package notify

import (
	"context"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
)

// link returns the command that sets or ends an edge, seen from one user.
func (s *store) link(ctx context.Context, r relation, user, other string, id event.ID, on bool) *redis.IntCmd {
	set := "0"
	if on {
		set = "1"
	}
	overrules := event.FirstID(id.Time().Add(clockSkew))
	forget := event.FirstID(s.now().Add(-s.cfg.TombstoneTTL))
	return linkScript.Int(ctx, []string{r.key(user), r.endedKey(user)},
		other, id.String(), overrules.String(), set, s.cfg.TombstoneTTL.Milliseconds(), forget.String())
}

// follow notes that follower follows followee, and whether they want every post.
// began says that this event began the follow, also when it comes again.
func (s *store) follow(ctx context.Context, follower, followee string, id event.ID, everyPost bool) (began bool, err error) {
	follow := s.link(ctx, followers, followee, follower, id, true)
	err = s.exec(ctx, []redis.Cmder{follow, s.link(ctx, subscribers, followee, follower, id, everyPost)})
	return follow.Val() == 1, redisfault.Of(err, "note that %s follows %s", follower, followee)
}

func (s *store) unfollow(ctx context.Context, follower, followee string, id event.ID) error {
	err := s.exec(ctx, []redis.Cmder{
		s.link(ctx, followers, followee, follower, id, false),
		s.link(ctx, subscribers, followee, follower, id, false),
	})
	return redisfault.Of(err, "note that %s unfollowed %s", follower, followee)
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
