package feed

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/go-redis/v9/push"

	"activityfeed/internal/redispipe"
)

// trackerRest is how long nobody waits for the tracked connection after it failed.
const trackerRest = time.Second

// tracker is a connection on which Redis tells of changes. Of a key that was read
// through it, it says once that the key has changed, and says so before it answers
// anything that it is asked after the change (CLIENT TRACKING,
// https://redis.io/docs/latest/develop/reference/client-side-caching/). So whoever has
// had any answer on it knows of all changes that were there when it was asked. It is
// one connection, since Redis tells each only of what was read through that one.
type tracker struct {
	client *redis.Client
	pipe   *redispipe.Pipe
	// changed is told of each key, lost that news of any key may have been missed.
	changed func(key string)
	lost    func()
	// refused is told, once, that Redis does not tell of changes.
	refused func(error)
	// off says so; until is up to when it rests, in Unix nanoseconds.
	off   atomic.Bool
	until atomic.Int64
	now   func() time.Time
}

// newTracker returns the tracker of a Redis; nil of a cluster, where each node would
// have to be asked, of a failover group, whose old master may go on answering what it
// is asked, and where credentials change under connections, as there may then be two of
// them for a moment. It connects when it is used.
func newTracker(client redis.UniversalClient, timeout time.Duration, now func() time.Time, changed func(key string), lost func(), refused func(error)) *tracker {
	single, ok := client.(*redis.Client)
	if !ok || single.Options().Addr == failoverAddr || single.Options().StreamingCredentialsProvider != nil {
		return nil
	}
	t := &tracker{changed: changed, lost: lost, refused: refused, now: now}
	options := *single.Options()
	options.PoolSize, options.PipelinePoolSize = 1, -1 // the same connection for pipelines
	options.MinIdleConns, options.MaxIdleConns = 0, 0
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	options.ClientSideCache, options.ClientSideCacheConfig = nil, nil
	options.MaxRetries = -1
	options.Protocol = 3 // which has news between answers
	options.PushNotificationProcessor = push.NewProcessor()
	prepare := options.OnConnect
	options.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		if prepare != nil {
			if err := prepare(ctx, conn); err != nil {
				return err
			}
		}
		return t.connect(ctx, conn)
	}
	t.client = redis.NewClient(&options)
	// It fails for a second handler of a name, and this is the first.
	_ = t.client.RegisterPushNotificationHandler("invalidate", heard(t.hear), true)
	t.pipe = redispipe.New(t.client, timeout)
	return t
}

// failoverAddr is what the client of a failover group has for an address.
const failoverAddr = "FailoverClient"

func (t *tracker) close() error {
	if t == nil {
		return nil
	}
	return t.client.Close()
}

// tells says whether Redis tells of changes, as far as is known.
func (t *tracker) tells() bool {
	return t != nil && !t.off.Load() && t.now().UnixNano() >= t.until.Load()
}

// rest keeps readers from waiting for a connection that failed: others may do.
func (t *tracker) rest() { t.until.Store(t.now().Add(trackerRest).UnixNano()) }

// connect prepares a new connection. What changed since the last one, nobody told.
func (t *tracker) connect(ctx context.Context, conn *redis.Conn) error {
	t.lost()
	// The client goes on without version 3 where it is refused; there Redis takes the
	// second command, and tells nothing.
	err := conn.Hello(ctx, 3, "", "", "").Err()
	if err == nil {
		err = conn.ClientTrackingOn(ctx, nil).Err()
	}
	if !refusal(err) {
		return err
	}
	if !t.off.Swap(true) {
		t.refused(err)
	}
	return nil
}

// refusal says whether an old Redis, a stand-in, a proxy, or an ACL will never tell.
func refusal(err error) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	kind, _, _ := strings.Cut(answer.Error(), " ")
	return kind == "ERR" || kind == "NOPERM" || kind == "NOPROTO"
}

// heard makes a function what the client calls.
type heard func(news []any)

// HandlePushNotification is for the client.
func (h heard) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, news []any) error {
	h(news)
	return nil
}

// hear takes news: a list of keys, or nil for all.
func (t *tracker) hear(news []any) {
	var keys []any
	if len(news) == 2 {
		keys, _ = news[1].([]any)
	}
	if keys == nil {
		t.lost()
	}
	for _, key := range keys {
		if key, ok := key.(string); ok {
			t.changed(key)
		} else {
			t.lost()
		}
	}
}
