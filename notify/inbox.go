package notify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	"activityfeed/notify/device"
)

// inserted is what the scripts answer about one row.
type inserted int

// added says that the row is new.
func (i inserted) added() bool { return i&1 != 0 }

// reachable says that the row is there, new or not, and its owner has devices.
func (i inserted) reachable() bool { return i&2 != 0 }

// hidden says that a follower is not told of, because of a block or a mute.
func (i inserted) hidden() bool { return i&4 != 0 }

// insert adds a row to the inboxes of users, a pipeline at a time. It returns to how
// many of them it was new, and those who have it now, new or not, and have devices
// to be told on. A row that is there stays as it is, read or unread.
func (s *store) insert(ctx context.Context, r row, users []string) (added int, reachable []string, err error) {
	stored := r.encode()
	for chunk := range slices.Chunk(users, s.cfg.PipelineSize) {
		cmds := make([]redis.Cmder, len(chunk))
		for i, user := range chunk {
			cmds[i] = s.insertCmd(ctx, user, stored)
		}
		if err := s.inserting.Acquire(ctx, int64(len(chunk))); err != nil {
			return added, nil, fmt.Errorf("notify %d users: %w", len(chunk), err)
		}
		err := s.exec(ctx, cmds)
		s.inserting.Release(int64(len(chunk)))
		for i, cmd := range cmds {
			answer := inserted(cmd.(*redis.IntCmd).Val()) //nolint:forcetypeassert // made above
			if answer.added() {
				added++
			}
			if answer.reachable() {
				reachable = append(reachable, chunk[i])
			}
		}
		if err != nil {
			return added, nil, redisfault.Of(err, "notify %d users of %s by %s", len(chunk), r.id, r.actor)
		}
	}
	return added, reachable, nil
}

func (s *store) insertCmd(ctx context.Context, user, stored string) *redis.IntCmd {
	return insertScript.Int(ctx, []string{inboxKey(user), watchedKey(user), personKey(user), device.Key(user)},
		stored, s.cfg.InboxRows, s.cfg.Retention.Milliseconds())
}

// marks says which rows are marked: all up to one, and some besides.
type marks struct {
	upTo event.ID
	also []event.ID
	// read marks as read, which is seen too; otherwise as seen.
	read bool
}

// mark marks rows. Rows that come later are unmarked, also when their ids are
// smaller. version is the id of the fact that will say so, 0 if none will. It says
// whether a mark was new, and whether the user has devices.
func (s *store) mark(ctx context.Context, user string, m marks, version event.ID) (changed, devices bool, err error) {
	flags, known := flagSeen, ""
	if m.read {
		flags = flagSeen | flagRead
	}
	if version != 0 {
		known = version.String()
	}
	cmd := markScript.Int(ctx, []string{inboxKey(user), personKey(user), device.Key(user)},
		packed(m.upTo), packed(m.also...), flags, known)
	if err := s.exec(ctx, []redis.Cmder{cmd}); err != nil {
		return false, false, redisfault.Of(err, "mark notifications of %s", user)
	}
	return cmd.Val() >= 2, cmd.Val()%2 == 1, nil
}

// restore takes over marks out of the log, unless newer ones are known, or with again
// those ones too.
func (s *store) restore(
	ctx context.Context, user string, read, seen event.ID, also []event.ID, version event.ID, again bool,
) error {
	known := "0"
	if again {
		known = "1"
	}
	cmd := restoreScript.Int(ctx, []string{inboxKey(user), personKey(user)},
		version.String(), packed(read), packed(also...), packed(seen), known)
	return redisfault.Of(s.exec(ctx, []redis.Cmder{cmd}), "restore the marks of %s", user)
}

// packed returns ids as the scripts want them; 0 is no id.
func packed(ids ...event.ID) []byte {
	b := make([]byte, 0, idSize*len(ids))
	for _, id := range ids {
		if id != 0 {
			b = appendID(b, id)
		}
	}
	return b
}

// watched marks users as watched for ttl.
func (s *store) watched(ctx context.Context, users []string, ttl time.Duration) error {
	for chunk := range slices.Chunk(users, s.cfg.PipelineSize) {
		cmds := make([]redis.Cmder, len(chunk))
		for i, user := range chunk {
			cmds[i] = redis.NewStatusCmd(ctx, "set", watchedKey(user), "1", "px", ttl.Milliseconds())
		}
		if err := s.exec(ctx, cmds); err != nil {
			return redisfault.Of(err, "mark %d users as watched", len(chunk))
		}
	}
	return nil
}

// entry is a row of an inbox as its owner may see it now.
type entry struct {
	row

	// hidden rows are there and not shown: the post is gone, the two do not see
	// each other, or the row is too old.
	hidden bool
}

// view is an inbox at one moment.
type view struct {
	// entries are sorted, newest first.
	entries []entry
	// unread counts the rows that are shown and not read, unseen those that are not
	// seen either.
	unread, unseen int
}

func (s *store) view(ctx context.Context, user string) (view, error) {
	views, err := s.views(ctx, []string{user})
	if err != nil {
		return view{}, err
	}
	return views[0], nil
}

// views reads the inboxes of users, in their order, in two round trips: first the
// rows, then what hides them.
func (s *store) views(ctx context.Context, users []string) ([]view, error) {
	inboxes := make([]*redis.StringSliceCmd, len(users))
	hiding := make([]*redis.IntCmd, len(users))
	cmds := make([]redis.Cmder, 0, 2*len(users))
	for i, user := range users {
		inboxes[i] = redis.NewStringSliceCmd(ctx, "lrange", inboxKey(user), 0, -1)
		hiding[i] = existsCmd(ctx, user, hiddenFrom)
		cmds = append(cmds, inboxes[i], hiding[i])
	}
	if err := s.exec(ctx, cmds); err != nil {
		return nil, redisfault.Of(err, "read %d inboxes", len(users))
	}

	views := make([]view, len(users))
	filter := newFilter()
	for i, user := range users {
		views[i].entries = s.decode(inboxes[i].Val())
		filter.add(user, views[i].entries, hiding[i].Val() > 0)
	}
	if err := s.exec(ctx, filter.commands(ctx)); err != nil {
		return nil, redisfault.Of(err, "read what is hidden in %d inboxes", len(users))
	}
	for i, user := range users {
		filter.apply(user, &views[i])
	}
	return views, nil
}

// decode returns the rows that this version understands; what is too old to be
// shown is hidden.
func (s *store) decode(stored []string) []entry {
	entries := make([]entry, 0, len(stored))
	horizon := s.horizon()
	for _, text := range stored {
		r, err := decodeRow(text)
		if err != nil {
			// A newer version may write kinds of rows that this one does not know.
			s.metrics.undecodable.Inc()
			continue
		}
		entries = append(entries, entry{row: r, hidden: r.id < horizon})
	}
	return entries
}
