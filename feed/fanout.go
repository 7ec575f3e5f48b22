package feed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// audiencePart is how many followers of a large audience are pushed to before
	// other posts have their turn.
	audiencePart = 500
	// partsUnderWay is how many parts of one audience are sent at once: one is
	// answered while the other is written.
	partsUnderWay = 2
)

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
	for feeds, err := range s.audience(ctx, author, reach, members) {
		if err != nil {
			return done, err
		}
		n, err := s.pushAll(ctx, id, feeds, again)
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
func (s *redisStore) pushAll(ctx context.Context, id event.ID, feeds []string, again bool) (int, error) {
	size := min(s.cfg.PipelineSize, audiencePart)
	if len(feeds) <= size {
		return s.push(ctx, id, feeds, again)
	}
	var delivered atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsUnderWay)
	for part := range slices.Chunk(feeds, size) {
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
func (s *redisStore) push(ctx context.Context, id event.ID, feeds []string, again bool) (int, error) {
	if len(feeds) == 0 { // a scan may return an empty part
		return 0, nil
	}
	if again || !s.fresh(id) {
		return s.pushWithCare(ctx, id, feeds, again)
	}
	// What cannot be sent soon is no ordinary push any more: it comes again.
	within, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	p := s.pushes.take(len(feeds))
	p.fill(id, feeds)
	if err := s.writes.do(within, p.cmds[:len(feeds)]...); err != nil {
		return 0, redisfault.Of(err, "push post %s into %d feeds", id, len(feeds))
	}
	delivered, long := s.count(p.counts, feeds)
	s.pushes.put(p)
	return delivered, s.trim(ctx, long)
}

// pushWithCare puts a late or repeated post in its place.
func (s *redisStore) pushWithCare(ctx context.Context, id event.ID, feeds []string, again bool) (int, error) {
	feeds, err := s.warm(ctx, feeds)
	if err != nil {
		return 0, err
	}
	s.metrics.carefulPushes.Add(float64(len(feeds)))
	cmds := carefulPushes(ctx, id, feeds, again)
	if err := s.writes.do(ctx, erased(cmds)...); err != nil {
		return 0, redisfault.Of(err, "place post %s in %d feeds", id, len(feeds))
	}
	delivered, long := s.count(cmds, feeds)
	return delivered, s.trim(ctx, long)
}

// count returns how many of the feeds a post went into, and those that are too long
// now. counts are what the pushes answered: how long each feed is.
func (s *redisStore) count(counts []*redis.IntCmd, feeds []string) (delivered int, long []string) {
	for i, feed := range feeds {
		length := int(counts[i].Val())
		if length > 0 {
			delivered++
		}
		if length > s.cfg.Cap+s.cfg.Slack {
			long = append(long, feed)
		}
	}
	s.metrics.deliveries.Add(float64(delivered))
	return delivered, long
}

// trim cuts feeds to the cap, but for those that are being built: their marker,
// the last entry, must stay. Looking first, then cutting, costs a tenth of a
// script; a build cannot begin and get more than cap pushes in between.
func (s *redisStore) trim(ctx context.Context, feeds []string) error {
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
