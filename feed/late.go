package feed

import (
	"context"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// warm returns those of the pushes whose feeds exist. A careful push is a script,
// which costs ten times as much as asking, also where there is nothing to push into;
// and after an outage every push is careful. A feed that does not exist now finds the
// post in its author's list when it is built.
func (s *redisStore) warm(ctx context.Context, p *pushes) (*pushes, error) {
	exist := make([]*redis.IntCmd, p.len())
	for i := range exist {
		exist[i] = redis.NewIntCmd(ctx, "exists", p.feed(i))
	}
	if err := s.writes.do(ctx, erased(exist)...); err != nil {
		return nil, redisfault.Of(err, "ask which of %d feeds exist", p.len())
	}
	warm := &pushes{}
	for i, cmd := range exist {
		if cmd.Val() == 1 {
			warm.args = append(warm.args, p.args[3*i:3*i+3]...)
			warm.counts, warm.cmds = append(warm.counts, p.counts[i]), append(warm.cmds, p.cmds[i])
		}
	}
	return warm, nil
}
