package feed

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redispipe"
)

// lane collects the commands of many goroutines into few pipelines. It has no
// goroutine and no timer: whoever finds a free slot sends what has gathered, so
// that a lone caller waits for nobody and a crowd shares its round trips.
type lane struct {
	// size is about how many commands a pipeline holds.
	size int
	exec func(ctx context.Context, cmds []redis.Cmder) error
	// gather lets other callers run, up to where they ask too, before a pipeline is
	// filled. Handlers gather by themselves while a pipeline is under way. Requests do
	// not: on a server with few cores most of them wait for their turn to run, and
	// whoever ran first would send what is its own. Where nobody else is ready to run
	// it takes no time.
	gather bool
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
	// sent says that the group has left the queue.
	sent bool
	// done is closed when the commands have run; they must not be read before, nor err,
	// which is what exec returned of the pipeline that they ran in.
	done chan struct{}
	err  error
}

func newLane(pipelines, size int, exec func(context.Context, []redis.Cmder) error) *lane {
	return &lane{size: size, exec: exec, slots: make(chan struct{}, pipelines)}
}

// do runs the commands and returns their first error. When ctx ends before they
// are sent, they never are; when it ends later, it is unknown whether they ran,
// and they belong to the lane for good.
func (l *lane) do(ctx context.Context, cmds ...redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	if mine, err := l.join(ctx, cmds); mine == nil {
		return err
	}
	return redispipe.FirstError(cmds)
}

// wait returns when a pipeline has run that was filled after the call began, with what
// exec returned of it. It shares the pipelines of those who have commands.
func (l *lane) wait(ctx context.Context) error {
	mine, err := l.join(ctx, nil)
	if mine == nil {
		return err
	}
	return mine.err
}

// join runs the commands; it returns no group when ctx ended before that.
func (l *lane) join(ctx context.Context, cmds []redis.Cmder) (*group, error) {
	mine := &group{ctx: ctx, cmds: cmds, done: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, mine)
	l.mu.Unlock()
	free := l.slots
	for {
		select {
		case <-mine.done:
			return mine, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case free <- struct{}{}:
		}
		if l.gather {
			runtime.Gosched()
		}
		groups := l.take(mine)
		l.run(ctx, groups)
		<-l.slots
		if len(groups) == 0 {
			free = nil
		}
	}
}

// take removes the oldest groups from the queue, up to the size of a pipeline, and
// forgets those that nobody waits for. It takes none once mine was sent: what is
// left then has callers of its own, and sending it would keep this one from an
// answer that may be there.
func (l *lane) take(mine *group) []*group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine.sent {
		return nil
	}
	var taken []*group
	n, size := 0, 0
	for ; n < len(l.queue); n++ {
		g := l.queue[n]
		if g.ctx.Err() != nil {
			continue
		}
		if len(taken) > 0 && size+len(g.cmds) > l.size {
			break
		}
		g.sent = true
		taken, size = append(taken, g), size+len(g.cmds)
	}
	l.queue = slices.Delete(l.queue, 0, n)
	return taken
}

// run sends the groups. They belong to other callers too, so that the end of this
// one's context must not take them along; exec has its own deadline.
func (l *lane) run(ctx context.Context, groups []*group) {
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
	// Each caller finds its own errors in its own commands, if it has some.
	err := l.exec(context.WithoutCancel(ctx), cmds)
	for _, g := range groups {
		g.err = err
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
