package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// clock is moved by the test.
type clock struct {
	*testenv.Clock

	// mini moves along, so that its keys expire.
	mini *miniredis.Miniredis
}

func newClock() *clock {
	return &clock{Clock: testenv.NewClock(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC))}
}

func (c *clock) Advance(d time.Duration) {
	c.Clock.Advance(d)
	if c.mini != nil {
		c.mini.FastForward(d)
	}
}

// world is one Redis, a clock and a source of ids; processes live in it.
type world struct {
	// dial opens a connection of a process; it closes with the test.
	dial  func(t testing.TB) redis.UniversalClient
	clock *clock
	ids   *event.IDs
	raw   redis.UniversalClient // sees no tap
}

// smallConfig makes lists short, so that tests reach their ends.
func smallConfig() Config { return Config{Cap: 8, Slack: 2, PipelineSize: 3} }

// onEngines runs a test over miniredis, a real Redis and a Redis Cluster.
func onEngines(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, newMiniWorld(t))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, single(testenv.Redis(t))))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		test(t, newClusterWorld(t))
	})
}

func newMiniWorld(t testing.TB) *world {
	mini := testenv.MiniRedis(t)
	w := newWorld(t, single(mini.Addr()))
	w.clock.mini = mini
	return w
}

// newClusterWorld takes the cluster that the tests of this package share.
func newClusterWorld(t testing.TB) *world {
	client := testenv.SharedRedisCluster(t)
	return newWorld(t, func(t testing.TB) redis.UniversalClient {
		own := redis.NewClusterClient(client.Options())
		t.Cleanup(func() { own.Close() })
		return own
	})
}

func newWorld(t testing.TB, dial func(testing.TB) redis.UniversalClient) *world {
	w := &world{dial: dial, clock: newClock()}
	var err error
	if w.ids, err = event.NewIDs(1, w.clock.Now); err != nil {
		t.Fatal(err)
	}
	w.raw = w.dial(t)
	return w
}

// single dials one Redis.
func single(addr string) func(testing.TB) redis.UniversalClient {
	return func(t testing.TB) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: testenv.RedisTimeout})
		t.Cleanup(func() { client.Close() })
		return client
	}
}

// everyNode runs a command on the Redis, or on all masters of the cluster.
func (w *world) everyNode(ctx context.Context, do func(ctx context.Context, node *redis.Client) error) error {
	if cluster, ok := w.raw.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, do)
	}
	return do(ctx, w.raw.(*redis.Client))
}

// flush empties Redis.
func (w *world) flush(ctx context.Context) error {
	return w.everyNode(ctx, func(ctx context.Context, node *redis.Client) error { return node.FlushAll(ctx).Err() })
}

// process is a feed in the world, with its own connection and memory.
type process struct {
	*Feed

	w       *world
	tap     *tap
	client  redis.UniversalClient
	metrics *prometheus.Registry // outlives restarts
	api     *feedService
}

func (w *world) process(t testing.TB, cfg Config) *process {
	p := &process{w: w, tap: &tap{}, client: w.dial(t), metrics: prometheus.NewRegistry()}
	p.client.AddHook(p.tap)
	p.restart(t, cfg)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// failer is a testing.TB or a rapid.T.
type failer interface{ Fatal(args ...any) }

// restart makes the process forget what it has in memory.
func (p *process) restart(t failer, cfg Config) {
	cfg.RedisTimeout = cmp.Or(cfg.RedisTimeout, testenv.RedisTimeout)
	f, err := New(cfg, Deps{Log: slog.New(slog.DiscardHandler), Redis: p.client, Now: p.w.clock.Now, Metrics: p.metrics})
	if err != nil {
		t.Fatal(err)
	}
	if p.Feed != nil {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.Feed, p.api = f, f.service()
	if f.store.tracker != nil {
		f.store.tracker.client.AddHook(p.tap)
	}
}

// event makes a fact of this moment.
func (w *world) event(data proto.Message) event.Event {
	id := w.ids.Next()
	if posted, ok := data.(*pb.PhotoPosted); ok && posted.GetPhoto().GetPostId() == "" {
		posted.GetPhoto().PostId = w.ids.Next().String()
	}
	return event.Event{ID: id, Time: w.clock.Now(), Source: "test", Data: data}
}

// deliver hands an event to the process as its attempt-th delivery.
func (p *process) deliver(ctx context.Context, e event.Event, attempt int) error {
	msg, err := event.Encode(e)
	if err != nil {
		return err
	}
	msg.SetContext(record.WithOrigin(ctx, record.Origin{Topic: event.Topic, Attempt: attempt}))
	return p.handler.handle(msg)
}

// apply delivers facts of this moment for the first time.
func (p *process) apply(t testing.TB, facts ...proto.Message) {
	t.Helper()
	for _, fact := range facts {
		if err := p.deliver(t.Context(), p.w.event(fact), 1); err != nil {
			t.Fatalf("deliver %T: %v", fact, err)
		}
	}
}

// post posts as author and returns the id.
func (p *process) post(t testing.TB, author string) string {
	t.Helper()
	fact := posted(author, p.w.ids.Next(), p.w.clock.Now())
	p.apply(t, fact)
	return fact.GetPhoto().GetPostId()
}

func posted(author string, id event.ID, at time.Time) *pb.PhotoPosted {
	return &pb.PhotoPosted{Photo: &pb.Photo{
		PostId:     id.String(),
		AuthorId:   author,
		Media:      []*pb.Media{{Url: "https://img.example/" + id.String(), Width: 640, Height: 480}},
		Caption:    "by " + author,
		CreateTime: timestamppb.New(at),
	}}
}

func deleted(author, id string) *pb.PhotoDeleted {
	return &pb.PhotoDeleted{AuthorId: author, PostId: id}
}

func followed(follower, followee string) *pb.UserFollowed {
	return &pb.UserFollowed{FollowerId: follower, FolloweeId: followee}
}

func unfollowed(follower, followee string) *pb.UserUnfollowed {
	return &pb.UserUnfollowed{FollowerId: follower, FolloweeId: followee}
}

// home reads a whole home feed in pages of this size and checks what must hold of
// pages at any time: full while there are more, newest first, each post once. At
// rest, has_more must also be true only where something follows.
func (p *process) home(ctx context.Context, user string, size int32, rest bool) ([]string, error) {
	return scroll(size, "", rest, func(token string) ([]*pb.Photo, string, bool, error) {
		r, err := p.api.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: user, PageSize: size, PageToken: token})
		return r.GetPhotos(), r.GetNextPageToken(), r.GetHasMore(), err
	})
}

func (p *process) authorFeed(ctx context.Context, user, author string, size int32) ([]string, error) {
	return scroll(size, "", true, func(token string) ([]*pb.Photo, string, bool, error) {
		r, err := p.api.GetAuthorFeed(ctx, &pb.GetAuthorFeedRequest{UserId: user, AuthorId: author, PageSize: size, PageToken: token})
		return r.GetPhotos(), r.GetNextPageToken(), r.GetHasMore(), err
	})
}

func scroll(size int32, token string, rest bool, next func(token string) ([]*pb.Photo, string, bool, error)) ([]string, error) {
	ids := []string{}
	for {
		photos, token2, more, err := next(token)
		if err != nil {
			return nil, err
		}
		if ids, err = appendPage(ids, rest && token != "", photos, size, token2, more); err != nil || !more {
			return ids, err
		}
		token = token2
	}
}

// appendPage checks a page and appends its ids to those of the pages before.
// promised says that the page before it had more.
func appendPage(ids []string, promised bool, photos []*pb.Photo, size int32, token string, more bool) ([]string, error) {
	if more != (token != "") {
		return nil, fmt.Errorf("has_more is %v with page token %q", more, token)
	}
	if more && len(photos) != int(size) || len(photos) > int(size) {
		return nil, fmt.Errorf("page of %d posts, has_more %v, asked for %d", len(photos), more, size)
	}
	if promised && len(photos) == 0 {
		return nil, errors.New("empty page after has_more")
	}
	for _, photo := range photos {
		if len(ids) > 0 && photo.GetPostId() >= ids[len(ids)-1] {
			return nil, fmt.Errorf("post %s comes after %s", photo.GetPostId(), ids[len(ids)-1])
		}
		ids = append(ids, photo.GetPostId())
	}
	return ids, nil
}

// wantHome checks a whole feed, newest first.
func (p *process) wantHome(t testing.TB, user string, want ...string) {
	t.Helper()
	// The last size is the first of the next time, so that it finds a page in memory.
	for _, size := range []int32{100, 1, 3, 100} {
		got, err := p.home(t.Context(), user, size, true)
		if err != nil {
			t.Fatalf("home(%s) in pages of %d: %v", user, size, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("home(%s) in pages of %d = %v, want %v", user, size, got, want)
		}
	}
}

// list returns what Redis holds.
func (w *world) list(t testing.TB, user string) []string {
	t.Helper()
	entries, err := w.raw.LRange(t.Context(), feedKey(user), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func newestFirst(ids ...string) []string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids
}

// tap sits between a process and Redis: it can run something before a call, and
// make a call fail, before Redis sees it or after.
type tap struct {
	mu     sync.Mutex
	before func() // runs once
	at     int    // before the at-th call from now
	fail   int    // the fail-th call from now fails
	late   bool   // after Redis has done it
	calls  int
	each   func() // before every call
}

func (p *tap) arm(at int, before func(), fail int, late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.at, p.before, p.fail, p.late = 0, at, before, fail, late
}

func (p *tap) disarm() { p.arm(0, nil, 0, false) }

// watch runs something before every call, perhaps in many goroutines at once.
func (p *tap) watch(each func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.each = each
}

var errTapped = errors.New("connection reset by the test")

func (p *tap) step(run func() error, set func(error)) error {
	p.mu.Lock()
	p.calls++
	var before func()
	if p.calls == p.at {
		before, p.before = p.before, nil
	}
	if p.each != nil {
		before = p.each
	}
	failing, late := p.calls == p.fail, p.late
	p.mu.Unlock()
	if before != nil {
		before()
	}
	if failing && !late {
		set(errTapped)
		return errTapped
	}
	err := run()
	if failing {
		set(errTapped)
		return errTapped
	}
	return err
}

func (p *tap) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *tap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return p.step(func() error { return next(ctx, cmd) }, cmd.SetErr)
	}
}

func (p *tap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return p.step(func() error { return next(ctx, cmds) }, func(err error) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		})
	}
}
