package feed

import (
	"context"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// warm returns those of the feeds that exist. A careful push is a script, which
// costs ten times as much as asking, also where there is nothing to push into; and
// after an outage every push is careful. A feed that does not exist now finds the
// post in its author's list when it is built.
func (s *redisStore) warm(ctx context.Context, feeds []string) ([]string, error) {
	exist := make([]*redis.IntCmd, len(feeds))
	for i, feed := range feeds {
		exist[i] = redis.NewIntCmd(ctx, "exists", feed)
	}
	if err := s.writes.do(ctx, erased(exist)...); err != nil {
		return nil, redisfault.Of(err, "ask which of %d feeds exist", len(feeds))
	}
	var warm []string
	for i, cmd := range exist {
		if cmd.Val() == 1 {
			warm = append(warm, feeds[i])
		}
	}
	return warm, nil
}
