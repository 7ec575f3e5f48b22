package feed

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// partsUnderWay is how many parts of one large audience are sent at once: enough
// to keep the pipelines full, few enough to let other posts in between.
const partsUnderWay = 4

// publish keeps a post and pushes it into the home feeds of the author and their
// followers. The body comes first, so that no reader meets an id without one; the
// author's list comes before the pushes, so that a feed which is being built
// finds the post in one or the other. again says that this may be a repeat. It
// returns into how many feeds the post went.
func (s *redisStore) publish(ctx context.Context, photo *pb.Photo, again bool) (delivered int, err error) {
	author := photo.GetAuthorId()
	id, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return 0, fault.Poison(event.ReasonInvalid, fmt.Errorf("post_id: %w", err))
	}
	value, err := encodePost(photo)
	if err != nil {
		return 0, err
	}
	keep := keepScript.integer(ctx, []string{postKey(id)}, author, value)
	enlist := authorScript.list(ctx, []string{authorKey(author), followers.key(author)}, id.String())
	if err := s.writes.do(ctx, keep, enlist); err != nil {
		return 0, redisFault(err, "keep post %s of %s", id, author)
	}
	if keep.Val() == 0 {
		// Deleted since it was pushed first, or before it came.
		return 0, s.unlist(ctx, author, id)
	}
	size, generation, err := parseAudience(enlist.Val())
	if err != nil {
		return 0, err
	}
	for feeds, err := range s.audience(ctx, author, size, generation) {
		if err != nil {
			return delivered, err
		}
		n, err := s.pushAll(ctx, id, feeds, again)
		delivered += n
		if err != nil {
			return delivered, err
		}
	}
	return delivered, nil
}

// pushAll pushes a post into the feeds, part by part.
func (s *redisStore) pushAll(ctx context.Context, id event.ID, feeds []any, again bool) (int, error) {
	if len(feeds) <= s.cfg.PipelineSize {
		return s.push(ctx, id, feeds, again)
	}
	var delivered atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsUnderWay)
	for part := range slices.Chunk(feeds, s.cfg.PipelineSize) {
		g.Go(func() error {
			n, err := s.push(ctx, id, part, again)
			delivered.Add(int64(n))
			return err
		})
	}
	err := g.Wait()
	return int(delivered.Load()), err
}

// push pushes a post into those of the feeds that exist and returns into how many.
func (s *redisStore) push(ctx context.Context, id event.ID, feeds []any, again bool) (int, error) {
	var cmds []redis.Cmder
	if again || !s.fresh(id) {
		s.metrics.carefulPushes.Add(float64(len(feeds)))
		cmds = carefulPushes(ctx, id, feeds, again)
	} else {
		cmds = ordinaryPushes(ctx, id, feeds)
		// What cannot be sent soon is no ordinary push any more: it comes again.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pushWithin)
		defer cancel()
	}
	if err := s.writes.do(ctx, cmds...); err != nil {
		return 0, redisFault(err, "push post %s into %d feeds", id, len(feeds))
	}
	delivered := 0
	var trims []redis.Cmder
	for i, cmd := range cmds {
		length := int(cmd.(*redis.IntCmd).Val())
		if length > 0 {
			delivered++
		}
		if length > s.cfg.Cap+s.cfg.Slack {
			trims = append(trims, redis.NewIntCmd(ctx, "evalsha", trimScript.sha, 1, feeds[i], s.cfg.Cap))
		}
	}
	s.metrics.deliveries.Add(float64(delivered))
	s.metrics.trims.Add(float64(len(trims)))
	return delivered, redisFault(s.writes.do(ctx, trims...), "trim %d feeds", len(trims))
}

// ordinaryPushes never look into the list; doc.go says why that is enough. They
// share one array for all their arguments.
func ordinaryPushes(ctx context.Context, id event.ID, feeds []any) []redis.Cmder {
	cmds := make([]redis.Cmder, len(feeds))
	args := make([]any, 0, 3*len(feeds))
	var command, post any = "lpushx", id.String()
	for i, feed := range feeds {
		args = append(args, command, feed, post)
		cmds[i] = redis.NewIntCmd(ctx, args[3*i:3*i+3:3*i+3]...)
	}
	return cmds
}

// carefulPushes find the place of a late or repeated post.
func carefulPushes(ctx context.Context, id event.ID, feeds []any, again bool) []redis.Cmder {
	cmds := make([]redis.Cmder, len(feeds))
	var script, post, horizon any = pushScript.sha, id.String(), ""
	if again {
		horizon = shift(id, -disorder).String()
	}
	for i, feed := range feeds {
		cmds[i] = redis.NewIntCmd(ctx, "evalsha", script, 1, feed, post, horizon)
	}
	return cmds
}

// parseAudience reads the reply of the author script.
func parseAudience(reply []string) (size int, generation string, err error) {
	if len(reply) != 2 {
		return 0, "", fmt.Errorf("author script answered %d values", len(reply))
	}
	size, err = strconv.Atoi(reply[0])
	return size, reply[1], err
}
