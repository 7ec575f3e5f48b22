package notify

import (
	"context"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
)

// filter finds out what hides the rows of some inboxes. It asks once about each
// post and about each pair of users, however many inboxes and rows name them.
type filter struct {
	// actors are the users named in the inbox of a reader who may hide some.
	actors map[string]*lookup
	// posts are the posts named in any inbox, by their author.
	posts map[string]*lookup
}

// lookup collects questions of one kind about one user, and their commands.
type lookup struct {
	index map[string]int
	names []string
	cmds  []redis.Cmder
}

func (l *lookup) add(name string) {
	if _, known := l.index[name]; !known {
		l.index[name] = len(l.names)
		l.names = append(l.names, name)
	}
}

func newFilter() *filter {
	return &filter{actors: make(map[string]*lookup), posts: make(map[string]*lookup)}
}

func lookupOf(all map[string]*lookup, user string) *lookup {
	l := all[user]
	if l == nil {
		l = &lookup{index: make(map[string]int)}
		all[user] = l
	}
	return l
}

// add notes what has to be asked for one inbox. hiding says that its owner and
// somebody else do not see each other.
func (f *filter) add(user string, entries []entry, hiding bool) {
	for _, e := range entries {
		if e.hidden {
			continue
		}
		if hiding {
			lookupOf(f.actors, user).add(e.actor)
		}
		if e.post != 0 {
			lookupOf(f.posts, e.actor).add(e.post.String())
		}
	}
}

// commands returns the questions.
func (f *filter) commands(ctx context.Context) []redis.Cmder {
	var all []redis.Cmder
	for user, l := range f.actors {
		l.cmds = memberships(ctx, user, hiddenFrom, l.names)
		all = append(all, l.cmds...)
	}
	for author, l := range f.posts {
		args := make([]any, 0, 2+len(l.names))
		args = append(args, "smismember", deletedKey(author))
		for _, post := range l.names {
			args = append(args, post)
		}
		l.cmds = []redis.Cmder{redis.NewBoolSliceCmd(ctx, args...)}
		all = append(all, l.cmds...)
	}
	return all
}

// apply hides what the answers say and counts what is unread.
func (f *filter) apply(user string, v *view) {
	for i := range v.entries {
		e := &v.entries[i]
		e.hidden = e.hidden || f.isDeleted(e.actor, e.post) || f.isHidden(user, e.actor)
		if !e.hidden && !e.read {
			v.unread++
		}
		if !e.hidden && !e.seen {
			v.unseen++
		}
	}
}

func (f *filter) isDeleted(author string, post event.ID) bool {
	l := f.posts[author]
	if post == 0 || l == nil {
		return false
	}
	i, asked := l.index[post.String()]
	deleted := l.cmds[0].(*redis.BoolSliceCmd).Val() //nolint:forcetypeassert // made by commands
	return asked && i < len(deleted) && deleted[i]
}

func (f *filter) isHidden(user, actor string) bool {
	l := f.actors[user]
	if l == nil {
		return false
	}
	i, asked := l.index[actor]
	return asked && anyMember(l.cmds, i)
}
