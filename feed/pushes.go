package feed

import (
	"context"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
)

// pushes are an ordinary push for each of some home feeds. They are kept from one
// post of an author to the next: commands made anew would be most of the garbage
// of the fan-out. They have one user at a time, and one whose call did not end
// must leave them alone for good.
type pushes struct {
	// args are those of all commands: name, feed, post; name, feed, post; ...
	args   []any
	counts []*redis.IntCmd
	cmds   []redis.Cmder // the same commands
}

// newPushes returns the pushes into the feed of the author, if one is named, and
// into those of every step-th entry of a followers hash.
func newPushes(author string, entries []string, step int) *pushes {
	users := make([]string, 0, 1+len(entries)/step)
	if author != "" {
		users = append(users, author)
	}
	for i := 0; i < len(entries); i += step {
		if user := entries[i]; user != generationField && user != author {
			users = append(users, user)
		}
	}
	p := &pushes{
		args:   make([]any, 0, 3*len(users)),
		counts: make([]*redis.IntCmd, len(users)),
		cmds:   make([]redis.Cmder, len(users)),
	}
	for i, user := range users {
		p.args = append(p.args, "lpushx", feedKey(user), nil)
		// Their context is not used: a pipeline has its own.
		p.counts[i] = redis.NewIntCmd(context.Background(), p.args[3*i:3*i+3]...)
		p.cmds[i] = p.counts[i]
	}
	return p
}

func (p *pushes) len() int { return len(p.cmds) }

// weight counts the entry of a cache as one follower or two more.
func (p *pushes) weight() int { return len(p.cmds) + 2 }

// feed returns the key of the i-th feed.
func (p *pushes) feed(i int) any { return p.args[3*i+1] }

// part returns the pushes from i up to j. Different parts may have different users.
func (p *pushes) part(i, j int) *pushes {
	return &pushes{args: p.args[3*i : 3*j], counts: p.counts[i:j], cmds: p.cmds[i:j]}
}

// ordinary makes the commands push a post. They never look into a list; doc.go says
// why that is enough.
func (p *pushes) ordinary(id event.ID) {
	var post any = id.String()
	for i := 2; i < len(p.args); i += 3 {
		p.args[i] = post
	}
}

// careful returns commands that find the place of a late or repeated post.
func (p *pushes) careful(ctx context.Context, id event.ID, again bool) []*redis.IntCmd {
	cmds := make([]*redis.IntCmd, p.len())
	var script, post, horizon any = pushScript.Name(), id.String(), ""
	if again {
		horizon = shift(id, -disorder).String()
	}
	for i := range cmds {
		cmds[i] = redis.NewIntCmd(ctx, "evalsha", script, 1, p.feed(i), post, horizon)
	}
	return cmds
}
