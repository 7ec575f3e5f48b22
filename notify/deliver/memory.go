package deliver

import (
	"context"
	_ "embed"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	"activityfeed/internal/redispipe"
)

var (
	//go:embed lua/rate.lua
	rateSource string
	rateScript = redispipe.NewScript(rateSource)
)

// sentFor is how long a push that was sent is remembered: as long as the event that
// caused it may come again after a crash, and make the same push.
const sentFor = 24 * time.Hour

const (
	leased = "leased"
	sent   = "sent"
)

// memory is what deliver remembers in Redis beside its jobs.
type memory struct {
	pipe *redispipe.Pipe
}

// toldKey is the SET of the events of a day that a person was told of by push.
func toldKey(user string, e event.ID) string {
	return "notify:told:" + e.Time().Format("20060102") + ":{" + user + "}"
}

// rateKey is the STRING with a person's hourly allowance.
func rateKey(user string) string { return "notify:rate:{" + user + "}" }

// sentKey is the STRING that says what is with a push: leased or sent.
func sentKey(user, id string) string { return "notify:sent:{" + user + "}:" + id }

// untold returns those of a person's rows of which they were not told yet.
func (m memory) untold(ctx context.Context, user string, rows []Row) ([]Row, error) {
	cmds := make([]redis.Cmder, len(rows))
	for i, r := range rows {
		cmds[i] = redis.NewBoolCmd(ctx, "sismember", toldKey(user, r.ID), int64(r.ID))
	}
	if err := m.pipe.Exec(ctx, cmds...); err != nil {
		return nil, redisfault.Of(err, "read what %s was told", user)
	}
	var left []Row
	for i, r := range rows {
		if !cmds[i].(*redis.BoolCmd).Val() { //nolint:forcetypeassert // made above
			left = append(left, r)
		}
	}
	return left, nil
}

// tell notes that a person was told of rows; ttl is how old they may get.
func (m memory) tell(ctx context.Context, user string, rows []Row, ttl time.Duration) error {
	cmds := make([]redis.Cmder, 0, 2*len(rows))
	for _, r := range rows {
		key := toldKey(user, r.ID)
		cmds = append(cmds, redis.NewIntCmd(ctx, "sadd", key, int64(r.ID)),
			redis.NewBoolCmd(ctx, "pexpire", key, (ttl+48*time.Hour).Milliseconds()))
	}
	return redisfault.Of(m.pipe.Exec(ctx, cmds...), "note what %s was told", user)
}

// allow takes one push out of a person's allowance, or returns how long to wait.
func (m memory) allow(ctx context.Context, user string, perHour int, now time.Time) (time.Duration, error) {
	cmd := rateScript.Int(ctx, []string{rateKey(user)}, now.UnixMilli(),
		strconv.FormatFloat(float64(time.Hour.Milliseconds())/float64(perHour), 'f', 3, 64), perHour)
	if err := m.pipe.Exec(ctx, cmd); err != nil {
		return 0, redisfault.Of(err, "count the pushes of %s", user)
	}
	return time.Duration(cmd.Val()) * time.Millisecond, nil
}

// begin takes a lease on each push, and returns for each what it found instead:
// leased, sent, or nothing.
func (m memory) begin(ctx context.Context, jobs []*sending, lease time.Duration) error {
	cmds := make([]redis.Cmder, 0, 2*len(jobs))
	for _, j := range jobs {
		key := sentKey(j.User, j.leased.ID)
		cmds = append(cmds, redis.NewStringCmd(ctx, "get", key),
			redis.NewStatusCmd(ctx, "set", key, leased, "nx", "px", lease.Milliseconds()))
	}
	if err := m.pipe.Exec(ctx, cmds...); err != nil {
		return redisfault.Of(err, "begin %d pushes", len(jobs))
	}
	for i, j := range jobs {
		j.found = cmds[2*i].(*redis.StringCmd).Val() //nolint:forcetypeassert // made above
	}
	return nil
}

// finish notes that a push was sent; free gives its lease back.
func (m memory) finish(ctx context.Context, j *sending) error {
	cmd := redis.NewStatusCmd(ctx, "set", sentKey(j.User, j.leased.ID), sent, "px", sentFor.Milliseconds())
	return redisfault.Of(m.pipe.Exec(ctx, cmd), "note that a push was sent")
}

func (m memory) free(ctx context.Context, j *sending) error {
	cmd := redis.NewIntCmd(ctx, "del", sentKey(j.User, j.leased.ID))
	return redisfault.Of(m.pipe.Exec(ctx, cmd), "give a push back")
}
