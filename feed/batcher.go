package feed

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redispipe"
)

// batcher collects the commands of many goroutines into few pipelines. It has no
// goroutine and no timer: whoever finds a free slot sends what has gathered, so
// that a lone caller waits for nobody and a crowd shares its round trips.
//
// Groups of different lengths have lanes of their own: Redis turns from one
// connection to the next after some 16 KB, so that a short group on a connection of
// its own waits for that much of a long one, not for the end of its pipeline.
type batcher struct {
	// size is about how many commands a pipeline holds.
	size  int
	exec  func(ctx context.Context, cmds []redis.Cmder) error
	lanes []*lane
}

// lane is a queue of groups of about one length.
type lane struct {
	// most is the length of the longest group; the last lane takes longer ones too.
	most int
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

// newBatcher returns a batcher of so many pipelines a lane. bounds, rising, are the
// lengths of the longest groups of all lanes but the last.
func newBatcher(pipelines, size int, exec func(context.Context, []redis.Cmder) error, bounds ...int) *batcher {
	b := &batcher{size: size, exec: exec}
	for _, most := range append(bounds, math.MaxInt) {
		b.lanes = append(b.lanes, &lane{most: most, slots: make(chan struct{}, pipelines)})
	}
	return b
}

// do runs the commands and returns their first error. When ctx ends before they
// are sent, they never are; when it ends later, it is unknown whether they ran,
// and they belong to the batcher for good.
func (b *batcher) do(ctx context.Context, cmds ...redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	mine := &group{ctx: ctx, cmds: cmds, done: make(chan struct{})}
	l := b.laneOf(len(cmds))
	l.mu.Lock()
	l.queue = append(l.queue, mine)
	l.mu.Unlock()
	free := l.slots
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
		groups := l.take(b.size)
		b.run(ctx, groups)
		<-l.slots
		if len(groups) == 0 {
			free = nil
		}
	}
}

func (b *batcher) laneOf(length int) *lane {
	for _, l := range b.lanes {
		if length <= l.most {
			return l
		}
	}
	return b.lanes[len(b.lanes)-1]
}

// take removes the oldest groups from the queue, of up to most commands together,
// and forgets those that nobody waits for.
func (l *lane) take(most int) []*group {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []*group
	n, size := 0, 0
	for ; n < len(l.queue); n++ {
		g := l.queue[n]
		if g.ctx.Err() != nil {
			continue
		}
		if len(taken) > 0 && size+len(g.cmds) > most {
			break
		}
		taken, size = append(taken, g), size+len(g.cmds)
	}
	l.queue = slices.Delete(l.queue, 0, n)
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
		cmds = make([]redis.Cmder, 0, length(groups))
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

func length(groups []*group) int {
	n := 0
	for _, g := range groups {
		n += len(g.cmds)
	}
	return n
}
