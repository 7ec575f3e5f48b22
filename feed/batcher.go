package feed

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redispipe"
)

// batcher collects the commands of many goroutines into few pipelines. It has no
// goroutine and no timer: whoever finds a free slot sends what has gathered, so
// that a lone caller waits for nobody and a crowd shares its round trips.
type batcher struct {
	// size is about how many commands a pipeline holds.
	size int
	exec func(ctx context.Context, cmds []redis.Cmder) error
	// slots holds a token for each pipeline under way.
	slots chan struct{}

	mu    sync.Mutex
	queue []*group
}

// group is what one caller wants done: commands that stay together and in order.
type group struct {
	// ctx is the caller's: a group whose context has ended is not sent any more.
	ctx  context.Context //nolint:containedctx // it travels with the work through a queue
	cmds []redis.Cmder
	// done is closed when the commands have run; they must not be read before.
	done chan struct{}
}

func newBatcher(pipelines, size int, exec func(context.Context, []redis.Cmder) error) *batcher {
	return &batcher{size: size, exec: exec, slots: make(chan struct{}, pipelines)}
}

// do runs the commands and returns their first error. When ctx ends before they
// are sent, they never are; when it ends later, it is unknown whether they ran,
// and they belong to the batcher for good.
func (b *batcher) do(ctx context.Context, cmds ...redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	mine := &group{ctx: ctx, cmds: cmds, done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, mine)
	b.mu.Unlock()
	free := b.slots
	for {
		select {
		case <-mine.done:
			return redispipe.FirstError(cmds)
		case <-ctx.Done():
			return ctx.Err()
		case free <- struct{}{}:
		}
		// The queue is served in order: either this takes our group, or somebody
		// else has it already and will close done.
		groups := b.take()
		b.run(ctx, groups)
		<-b.slots
		if len(groups) == 0 {
			free = nil
		}
	}
}

// take removes the oldest groups from the queue, up to the size of a pipeline,
// and forgets those that nobody waits for.
func (b *batcher) take() []*group {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken []*group
	n, size := 0, 0
	for ; n < len(b.queue); n++ {
		g := b.queue[n]
		if g.ctx.Err() != nil {
			continue
		}
		if len(taken) > 0 && size+len(g.cmds) > b.size {
			break
		}
		taken, size = append(taken, g), size+len(g.cmds)
	}
	b.queue = slices.Delete(b.queue, 0, n)
	return taken
}

// run sends the groups. They belong to other callers too, so that the end of this
// one's context must not take them along; exec has its own deadline.
func (b *batcher) run(ctx context.Context, groups []*group) {
	if len(groups) == 0 {
		return
	}
	cmds := groups[0].cmds
	if len(groups) > 1 {
		cmds = make([]redis.Cmder, 0, b.size)
		for _, g := range groups {
			cmds = append(cmds, g.cmds...)
		}
	}
	// Each caller finds its own errors in its own commands.
	_ = b.exec(context.WithoutCancel(ctx), cmds)
	for _, g := range groups {
		close(g.done)
	}
}
