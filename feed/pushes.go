package feed

import (
	"context"
	"math/bits"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
)

// pushes are an ordinary push into each of some home feeds.
type pushes struct {
	// args are those of all commands: name, feed, post; name, feed, post; ...
	args   []any
	counts []*redis.IntCmd
	cmds   []redis.Cmder // the same commands
}

func newPushes(n int) *pushes {
	p := &pushes{args: make([]any, 3*n), counts: make([]*redis.IntCmd, n), cmds: make([]redis.Cmder, n)}
	for i := range n {
		p.args[3*i] = "lpushx"
		// Their context is not used: a pipeline has its own.
		p.counts[i] = redis.NewIntCmd(context.Background(), p.args[3*i:3*i+3]...)
		p.cmds[i] = p.counts[i]
	}
	return p
}

// fill makes the first commands push a post into the feeds. They never look into a
// list; doc.go says why that is enough.
func (p *pushes) fill(id event.ID, feeds []string) {
	var post any = id.String()
	for i := range feeds {
		p.args[3*i+1], p.args[3*i+2] = &feeds[i], post // a pointer needs no room of its own
	}
}

// pushPool keeps commands from one post to the next: made anew they would be most
// of the garbage of the fan-out.
type pushPool struct {
	// bySize holds pushes of 1, 2, 4, 8 ... commands.
	bySize [bits.UintSize]sync.Pool
	// off says that commands serve once. The client of a cluster notes in a command
	// which node has its key, and no key may come to it after another.
	off bool
}

func newPushPool(client redis.UniversalClient) *pushPool {
	_, cluster := client.(*redis.ClusterClient)
	return &pushPool{off: cluster}
}

// take returns at least n commands, for the caller alone; n is not 0.
func (p *pushPool) take(n int) *pushes {
	if p.off {
		return newPushes(n)
	}
	size := bits.Len(uint(n - 1))
	if kept, ok := p.bySize[size].Get().(*pushes); ok {
		return kept
	}
	return newPushes(1 << size)
}

// put takes commands back whose call has ended well: after a failure they may still
// be under way, and hold errors.
func (p *pushPool) put(used *pushes) {
	if !p.off {
		p.bySize[bits.Len(uint(len(used.cmds)-1))].Put(used)
	}
}

// carefulPushes returns commands that find the place of a late or repeated post.
func carefulPushes(ctx context.Context, id event.ID, feeds []string, again bool) []*redis.IntCmd {
	cmds := make([]*redis.IntCmd, len(feeds))
	var script, post, repeat any = pushScript.Name(), id.String(), ""
	if again {
		repeat = "1"
	}
	for i, feed := range feeds {
		cmds[i] = redis.NewIntCmd(ctx, "evalsha", script, 1, feed, post, repeat)
	}
	return cmds
}
