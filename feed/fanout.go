package feed

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

// partsUnderWay is how many parts of one large audience are sent at once: enough
// to keep the pipelines full, few enough to let other posts in between.
const partsUnderWay = 4

// fanout is what became of a post.
type fanout struct {
	// audience is how many followers the author has.
	audience int
	// delivered is into how many feeds the post went: those that are kept, and none
	// but the author's own for large authors.
	delivered int
}

// publish keeps a post and pushes it into the home feeds of the author and their
// followers. The body comes first, so that no reader meets an id without one; the
// author's list comes before the pushes, so that a feed which is being built
// finds the post in one or the other. again says that this may be a repeat.
func (s *redisStore) publish(ctx context.Context, photo *pb.Photo, again bool) (done fanout, err error) {
	author := photo.GetAuthorId()
	id, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return done, fault.Poison(event.ReasonInvalid, fmt.Errorf("post_id: %w", err))
	}
	value, err := encodePost(photo)
	if err != nil {
		return done, err
	}
	// Four commands of two hash tags; those of the author's run in this order.
	keep := redis.NewBoolCmd(ctx, "setnx", postKey(id), value)
	enlist := authorScript.Int(ctx, []string{authorKey(author)}, id.String())
	size := redis.NewIntCmd(ctx, "hlen", followers.key(author))
	generation := redis.NewStringCmd(ctx, "hget", followers.key(author), generationField)
	if err := s.writes.do(ctx, keep, enlist, size, generation); err != nil {
		return done, redisfault.Of(err, "keep post %s of %s", id, author)
	}
	if !keep.Val() {
		// A repeat, or there is a tombstone: the script tells.
		gone, err := s.keepAgain(ctx, id, author, value)
		if err != nil {
			return done, err
		}
		if gone {
			return done, s.unlist(ctx, author, id)
		}
	}
	done.audience = max(0, int(size.Val())-1) // the generation is an entry too
	reach, members, err := s.reach(ctx, author, int(size.Val()), generation.Val())
	if err != nil {
		return done, err
	}
	for pushes, err := range s.audience(ctx, author, reach, members) {
		if err != nil {
			return done, err
		}
		n, err := s.pushAll(ctx, id, pushes, again)
		done.delivered += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// keepAgain keeps the body where something is already. It returns true if the
// author deleted the post.
func (s *redisStore) keepAgain(ctx context.Context, id event.ID, author string, value []byte) (gone bool, err error) {
	cmd := keepScript.Int(ctx, []string{postKey(id)}, author, value)
	if err := s.writes.do(ctx, cmd); err != nil {
		return false, redisfault.Of(err, "keep post %s of %s", id, author)
	}
	return cmd.Val() == 0, nil
}

// pushAll pushes a post into all the feeds, part by part.
func (s *redisStore) pushAll(ctx context.Context, id event.ID, all *pushes, again bool) (int, error) {
	if all.len() <= s.cfg.PipelineSize {
		return s.push(ctx, id, all, again)
	}
	var delivered atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsUnderWay)
	for start := 0; start < all.len(); start += s.cfg.PipelineSize {
		part := all.part(start, min(start+s.cfg.PipelineSize, all.len()))
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
func (s *redisStore) push(ctx context.Context, id event.ID, p *pushes, again bool) (int, error) {
	careful := again || !s.fresh(id)
	if careful {
		var err error
		if p, err = s.warm(ctx, p); err != nil {
			return 0, err
		}
	}
	cmds, counts := p.cmds, p.counts
	if careful {
		s.metrics.carefulPushes.Add(float64(p.len()))
		counts = p.careful(ctx, id, again)
		cmds = erased(counts)
	} else {
		p.ordinary(id)
		// What cannot be sent soon is no ordinary push any more: it comes again.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pushWithin)
		defer cancel()
	}
	if err := s.writes.do(ctx, cmds...); err != nil {
		return 0, redisfault.Of(err, "push post %s into %d feeds", id, p.len())
	}
	delivered := 0
	var long []any
	for i, count := range counts {
		length := int(count.Val())
		if length > 0 {
			delivered++
		}
		if length > s.cfg.Cap+s.cfg.Slack {
			long = append(long, p.feed(i))
		}
	}
	s.metrics.deliveries.Add(float64(delivered))
	return delivered, s.trim(ctx, long)
}

// trim cuts feeds to the cap, but for those that are being built: their marker,
// the last entry, must stay. Looking first, then cutting, costs a tenth of a
// script; a build cannot begin and get more than cap pushes in between.
func (s *redisStore) trim(ctx context.Context, feeds []any) error {
	ends := make([]*redis.StringCmd, len(feeds))
	for i, feed := range feeds {
		ends[i] = redis.NewStringCmd(ctx, "lindex", feed, -1)
	}
	if err := s.writes.do(ctx, erased(ends)...); err != nil {
		return redisfault.Of(err, "look at the ends of %d feeds", len(feeds))
	}
	trims := make([]redis.Cmder, 0, len(feeds))
	for i, end := range ends {
		if !strings.HasPrefix(end.Val(), markerPrefix) {
			trims = append(trims, redis.NewStatusCmd(ctx, "ltrim", feeds[i], 0, s.cfg.Cap-1))
		}
	}
	s.metrics.trims.Add(float64(len(trims)))
	return redisfault.Of(s.writes.do(ctx, trims...), "trim %d feeds", len(trims))
}
