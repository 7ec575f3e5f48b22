package feed

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redispipe"
)

const (
	// freshness is how young a post must be for an ordinary push, by the clock of
	// the consumer; it may also be half as much ahead of that clock.
	freshness = 60 * time.Second
	// pushWithin is how long an ordinary push may wait for its pipeline.
	pushWithin = 10 * time.Second
	// maxRedisTimeout is the longest that a call to Redis may take.
	maxRedisTimeout = 10 * time.Second
	// disorder is the time by which entries of one list can be out of order: one
	// and a half of freshness, the waiting and the call, and 10 s between the
	// clocks of two consumers.
	disorder = 120 * time.Second
	// clockSkew is how far the clocks of two hosts that accept commands may be
	// apart: of two facts about one edge within this time the later one in the
	// log counts, beyond it the one with the newer id.
	clockSkew = 2 * time.Second
)

// Requests share pipelines that are shorter than those of the write side: somebody
// waits for each. With two, one is answered while the other is written; more would
// spread the same reads over shorter ones.
const (
	readPipelines    = 2
	readPipelineSize = 500
)

// The longest groups of the lanes of the write side: what precedes the pushes of a
// post, as each post waits for it twice; the pushes of a post with an ordinary
// audience; and those of large ones, part by part.
const (
	questionLane = 16
	postLane     = audiencePart - 100
)

// redisStore keeps the projection. It is safe for concurrent use; what it keeps
// in memory it checks against Redis.
type redisStore struct {
	redis   redis.UniversalClient
	pipe    *redispipe.Pipe
	cfg     Config
	now     func() time.Time
	metrics *metrics
	// ahead is readAhead, but for tests.
	ahead int

	// writes collects the commands of concurrent handlers into large pipelines, reads
	// those of concurrent requests.
	writes *batcher
	reads  *lane
	// bodies and views remember what requests have read.
	bodies *bodyCache
	views  *viewCache
	fronts *frontCache
	// tracked shares the pipelines of the tracker, which is nil on a cluster.
	tracked *lane
	tracker *tracker
	// audiences remembers the followers of busy authors, pushes the commands.
	audiences *audienceCache
	pushes    *pushPool
	// builds lets one caller build a cold feed for all who wait for it.
	builds flights
	// building bounds the builds of this process.
	building *turns
}

func newRedisStore(cfg Config, client redis.UniversalClient, now func() time.Time, m *metrics, log *slog.Logger) *redisStore {
	s := &redisStore{
		redis:     client,
		pipe:      redispipe.New(client, cfg.RedisTimeout, allScripts...),
		cfg:       cfg,
		now:       now,
		metrics:   m,
		ahead:     readAhead,
		audiences: newAudienceCache(cfg.AudienceCache),
		pushes:    newPushPool(client),
		building:  newTurns(cfg.Rebuilds, time.Now),
		bodies:    newBodyCache(cfg.BodyCache),
		views:     newViewCache(cfg.ViewCache),
		fronts:    newFrontCache(cfg.PageCache),
	}
	s.writes = newBatcher(cfg.Pipelines, 2*cfg.PipelineSize, s.exec, questionLane, postLane)
	s.reads = newLane(readPipelines, readPipelineSize, s.execReads)
	s.reads.gather = true
	if cfg.PageCache > 0 && cfg.BodyCache > 0 {
		s.tracker = newTracker(client, cfg.RedisTimeout, now, s.fronts.changed, s.fronts.forget, func(err error) {
			log.Info("pages are not kept in memory: Redis does not tell of changes", "err", err)
		})
		s.tracked = newLane(1, readPipelineSize, s.execTracked)
		s.tracked.gather = true
	}
	return s
}

// ask runs commands of a request together with those of others. Commands of one
// hash tag run in their order. What was deleted before is known here afterwards.
func (s *redisStore) ask(ctx context.Context, cmds ...redis.Cmder) error {
	return s.reads.do(ctx, cmds...)
}

func (s *redisStore) execReads(ctx context.Context, cmds []redis.Cmder) error {
	news := s.bodies.ask(ctx)
	if news == nil {
		return s.exec(ctx, cmds)
	}
	_ = s.exec(ctx, append([]redis.Cmder{news}, cmds...)) // callers look at their own
	s.bodies.learn(news)
	return redispipe.FirstError(cmds)
}

// exec runs commands in a pipeline of their own.
func (s *redisStore) exec(ctx context.Context, cmds []redis.Cmder) error {
	return s.pipe.Exec(ctx, cmds...)
}

// erased returns commands as what pipelines take.
func erased[C redis.Cmder](cmds []C) []redis.Cmder {
	all := make([]redis.Cmder, len(cmds))
	for i, cmd := range cmds {
		all[i] = cmd
	}
	return all
}

// fresh says whether a post of this id may be pushed without looking.
func (s *redisStore) fresh(id event.ID) bool {
	age := s.now().Sub(id.Time())
	return age < freshness && age > -freshness/2
}

// shift returns the first id of the moment that is d after an id's, kept within
// what has 19 digits, so that it compares as a string.
func shift(id event.ID, d time.Duration) event.ID {
	const least, most = 1_000_000_000_000_000_000, math.MaxInt64
	shifted := event.FirstID(id.Time().Add(d))
	switch {
	case d > 0 && shifted < id:
		return most // beyond 63 bits
	case shifted < least:
		return least
	}
	return shifted
}
