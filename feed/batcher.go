package feed

import (
	"context"
	"math"

	"github.com/redis/go-redis/v9"
)

// batcher is a lane for each length of groups: Redis turns from one connection to
// the next after some 16 KB, so that a short group on a connection of its own waits
// for that much of a long one, not for the end of its pipeline.
type batcher struct {
	lanes []boundedLane
}

// boundedLane is a lane of groups of up to most commands.
type boundedLane struct {
	*lane

	most int
}

// newBatcher returns a batcher of so many pipelines a lane. bounds, rising, are the
// lengths of the longest groups of all lanes but the last.
func newBatcher(pipelines, size int, exec func(context.Context, []redis.Cmder) error, bounds ...int) *batcher {
	b := new(batcher)
	for _, most := range append(bounds, math.MaxInt) {
		b.lanes = append(b.lanes, boundedLane{newLane(pipelines, size, exec), most})
	}
	return b
}

// do runs the commands as [lane.do] does.
func (b *batcher) do(ctx context.Context, cmds ...redis.Cmder) error {
	last := len(b.lanes) - 1
	for _, l := range b.lanes[:last] {
		if len(cmds) <= l.most {
			return l.do(ctx, cmds...)
		}
	}
	return b.lanes[last].do(ctx, cmds...)
}
