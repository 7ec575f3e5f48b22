package feed

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redispipe"
)

// asking collects the commands of concurrent requests into pipelines, as the
// batcher does for handlers, which gather by themselves while a pipeline is under
// way. Requests do not: on a server with few cores most of them wait for their turn
// to run, and whoever ran first would send what is its own. So whoever finds a free
// pipeline lets the others run first, up to where they ask too. Where nobody else is
// ready to run that takes no time.
type asking struct {
	// most is about how many commands a pipeline holds.
	most int
	exec func(ctx context.Context, cmds []redis.Cmder) error
	// slots holds a token for each pipeline under way.
	slots chan struct{}

	mu      sync.Mutex
	waiting []*question
}

// question is what one request asks: commands that stay together and in order.
type question struct {
	ctx  context.Context //nolint:containedctx // it travels with the question
	cmds []redis.Cmder
	// done is closed when the commands have run; they must not be read before.
	done chan struct{}
}

func newAsking(pipelines, most int, exec func(context.Context, []redis.Cmder) error) *asking {
	return &asking{most: most, exec: exec, slots: make(chan struct{}, pipelines)}
}

// do runs the commands and returns their first error. When ctx ends before they
// are answered they belong to the pipeline for good.
func (a *asking) do(ctx context.Context, cmds ...redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	mine := &question{ctx: ctx, cmds: cmds, done: make(chan struct{})}
	a.mu.Lock()
	a.waiting = append(a.waiting, mine)
	a.mu.Unlock()
	free := a.slots
	for {
		select {
		case <-mine.done:
			return redispipe.FirstError(cmds)
		case <-ctx.Done():
			return ctx.Err()
		case free <- struct{}{}:
		}
		runtime.Gosched()
		// Questions are sent in order: either this sends ours, or somebody else has it
		// already and will close done.
		sent := a.send(ctx)
		<-a.slots
		if !sent {
			free = nil
		}
	}
}

// send runs a pipeline of the questions that have waited longest, and returns false
// if there are none. They are others' as well, so that the end of ctx must not take
// them along; exec has its own deadline.
func (a *asking) send(ctx context.Context) bool {
	taken, cmds := a.take()
	if len(taken) == 0 {
		return false
	}
	// Each finds its own errors in its own commands.
	_ = a.exec(context.WithoutCancel(ctx), cmds)
	for _, q := range taken {
		close(q.done)
	}
	return true
}

// take removes the oldest questions, up to the size of a pipeline, and forgets
// those that nobody waits for.
func (a *asking) take() (taken []*question, cmds []redis.Cmder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for ; n < len(a.waiting); n++ {
		q := a.waiting[n]
		if q.ctx.Err() != nil {
			continue
		}
		if len(taken) > 0 && len(cmds)+len(q.cmds) > a.most {
			break
		}
		taken, cmds = append(taken, q), append(cmds, q.cmds...)
	}
	a.waiting = slices.Delete(a.waiting, 0, n)
	return taken, cmds
}
