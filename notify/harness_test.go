package notify

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(notifierEnv); text != "" {
		fmt.Fprintln(os.Stderr, runNotifier(text))
		os.Exit(1)
	}
	// The default of 30 is too short for an inbox to fill. The command line wins.
	if err := flag.Set("rapid.steps", "120"); err != nil {
		panic(err)
	}
	os.Exit(testenv.Main(m))
}

// onEveryRedis runs a test against the in-memory stand-in, a real Redis, and a
// Redis Cluster, which refuses commands across hash slots.
func onEveryRedis(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Helper()
	for name, open := range map[string]func(t testing.TB) redis.UniversalClient{
		"miniredis": miniRedis, "redis": realRedis, "cluster": clusterRedis,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func miniRedis(t testing.TB) redis.UniversalClient {
	return dial(t, testenv.MiniRedis(t).Addr())
}

func realRedis(t testing.TB) redis.UniversalClient {
	return dial(t, testenv.Redis(t))
}

func dial(t testing.TB, addr string) redis.UniversalClient {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// clusterRedis takes the cluster that the tests of this package share.
func clusterRedis(t testing.TB) redis.UniversalClient {
	t.Helper()
	return testenv.SharedRedisCluster(t)
}

// await polls what another process decides; everything of ours gives signals.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// value returns what a counter or gauge says.
func value(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// clock is a clock that the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().Truncate(time.Millisecond)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// failer is what helpers need of a test: testing's or rapid's.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a Notify with a clock, and ids by that clock.
type world struct {
	*Notify

	t     failer
	clock *clock
	ids   *event.IDs
}

func newWorld(t testing.TB, client redis.UniversalClient, cfg Config) *world {
	t.Helper()
	clock := newClock()
	n, err := New(cfg, Deps{Log: testenv.Logger(t), Redis: client, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := event.NewIDs(7, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, Notify: n, clock: clock, ids: ids}
}

// event makes an event that happens now.
func (w *world) event(data proto.Message) event.Event {
	w.clock.advance(time.Millisecond)
	return event.Event{ID: w.ids.Next(), Time: w.clock.now(), Source: "test", Data: data}
}

// handle gives an event to the handler, as the router would.
func (w *world) handle(e event.Event) {
	w.t.Helper()
	msg, err := event.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	msg.SetContext(context.Background())
	if err := w.handler.handle(msg); err != nil {
		w.t.Fatalf("handle(%s %v) = %v", e.Type(), e.Data, err)
	}
}

// happen makes an event and handles it twice: the second time changes nothing.
func (w *world) happen(data proto.Message) event.ID {
	w.t.Helper()
	e := w.event(data)
	w.handle(e)
	w.handle(e)
	return e.ID
}

// inbox returns what a user sees, newest first: "post ann 1", "mention bob 2 read".
func (w *world) inbox(user string) []string {
	w.t.Helper()
	resp, err := w.service.ListNotifications(context.Background(), &pb.ListNotificationsRequest{UserId: user, PageSize: 100})
	if err != nil {
		w.t.Fatalf("ListNotifications(%s) = %v", user, err)
	}
	rows := make([]string, 0, len(resp.GetNotifications()))
	for _, n := range resp.GetNotifications() {
		rows = append(rows, line(n))
	}
	return rows
}

// line is a notification as the tests write it.
func line(n *pb.Notification) string {
	s := kindLabel(n.GetType()) + " " + n.GetActorId()
	if n.GetPostId() != "" {
		s += " " + n.GetPostId()[15:]
	}
	if n.GetRead() {
		s += " read"
	}
	return s
}

// unread returns a user's count.
func (w *world) unread(user string) int {
	w.t.Helper()
	resp, err := w.service.GetUnreadCount(context.Background(), &pb.GetUnreadCountRequest{UserId: user})
	if err != nil {
		w.t.Fatalf("GetUnreadCount(%s) = %v", user, err)
	}
	return int(resp.GetUnreadCount())
}

// postID makes the id of the n-th post of a test; its last digits are n.
func postID(n int) string { return fmt.Sprintf("150000000000000%04d", n) }

func posted(author string, n int, mentions ...string) *pb.PhotoPosted {
	return &pb.PhotoPosted{Photo: &pb.Photo{
		PostId:     postID(n),
		AuthorId:   author,
		Media:      []*pb.Media{{Url: "https://img.example/1.jpg", Width: 1, Height: 1}},
		Mentions:   mentions,
		CreateTime: timestamppb.Now(),
	}}
}

func deleted(author string, n int) *pb.PhotoDeleted {
	return &pb.PhotoDeleted{AuthorId: author, PostId: postID(n)}
}

const (
	levelUnset = pb.NotificationLevel_NOTIFICATION_LEVEL_UNSPECIFIED
	levelNo    = pb.NotificationLevel_NOTIFICATION_LEVEL_NONE
	levelEvery = pb.NotificationLevel_NOTIFICATION_LEVEL_ALL
)

func followed(follower, followee string, level pb.NotificationLevel) *pb.UserFollowed {
	return &pb.UserFollowed{FollowerId: follower, FolloweeId: followee, NotificationLevel: level}
}

func unfollowed(follower, followee string) *pb.UserUnfollowed {
	return &pb.UserUnfollowed{FollowerId: follower, FolloweeId: followee}
}

func blocked(actor, target string) *pb.UserBlocked {
	return &pb.UserBlocked{ActorId: actor, TargetId: target}
}

func unblocked(actor, target string) *pb.UserUnblocked {
	return &pb.UserUnblocked{ActorId: actor, TargetId: target}
}

func muted(actor, target string) *pb.UserMuted {
	return &pb.UserMuted{ActorId: actor, TargetId: target}
}

func unmuted(actor, target string) *pb.UserUnmuted {
	return &pb.UserUnmuted{ActorId: actor, TargetId: target}
}
