package notify

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"activityfeed/internal/event"
	"activityfeed/internal/redispipe"
)

// clockSkew is how far the clocks of two hosts that accept commands may be apart:
// of two facts about one edge within this time the later one in the log counts,
// beyond it the one with the newer id.
const clockSkew = 2 * time.Second

// store keeps the projection in Redis. It holds no state of its own and is safe
// for concurrent use. Its errors are outages, cancellations or bugs, see
// [redisFault]. A write that failed may have happened in part; repeating it whole
// is always right.
type store struct {
	redis   redis.UniversalClient
	pipe    *redispipe.Pipe
	cfg     Config
	now     func() time.Time
	metrics *metrics
	// inserting bounds the rows on their way to Redis: a burst of posts waits here,
	// and not in front of everybody else in Redis, where it would be an outage for
	// the feed. Two pipelines' worth keeps Redis busy.
	inserting *semaphore.Weighted
}

// horizon is the id of the moment before which rows are no longer shown.
func (s *store) horizon() event.ID { return event.FirstID(s.now().Add(-s.cfg.Retention)) }

// exec sends commands in one pipeline, see [redispipe.Pipe.Exec].
func (s *store) exec(ctx context.Context, cmds []redis.Cmder) error { return s.pipe.Exec(ctx, cmds...) }
