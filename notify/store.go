package notify

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"activityfeed/internal/event"
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

// exec sends commands in one pipeline and returns the first error; every command
// is asked for its own. Commands of one hash tag run in their order; on a cluster
// the tags run side by side. It answers within the deadline of one call to Redis,
// and twice that again if Redis has to be taught the scripts.
func (s *store) exec(ctx context.Context, cmds []redis.Cmder) error {
	err := s.pipeline(ctx, cmds)
	var again []redis.Cmder
	for _, cmd := range cmds {
		if unknownScript(cmd.Err()) {
			again = append(again, cmd)
		}
	}
	if len(again) == 0 {
		return err
	}
	// After a restart or a failover Redis has forgotten them.
	if err := s.loadScripts(ctx); err != nil {
		return err
	}
	_ = s.pipeline(ctx, again) // firstError sees it
	return firstError(cmds)
}

func (s *store) pipeline(ctx context.Context, cmds []redis.Cmder) error {
	if len(cmds) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RedisTimeout)
	defer cancel()
	p := s.redis.Pipeline()
	_ = p.BatchProcess(ctx, cmds...) // only queues
	// The error is the first command's; the others are asked one by one.
	_, _ = p.Exec(ctx)
	return firstError(cmds)
}

func (s *store) loadScripts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RedisTimeout)
	defer cancel()
	for _, script := range allScripts {
		if err := s.redis.ScriptLoad(ctx, script.source).Err(); err != nil {
			return err
		}
	}
	return nil
}

func unknownScript(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT")
}

// firstError returns the first failure; a missing key is none.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}
