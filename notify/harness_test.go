package notify

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

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

func miniRedis(t testing.TB) redis.UniversalClient {
	return testenv.RedisClient(t, testenv.MiniRedis(t).Addr())
}

func realRedis(t testing.TB) redis.UniversalClient {
	return testenv.RedisClient(t, testenv.Redis(t))
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
	clock *testenv.Clock
	ids   *event.IDs
}

func newWorld(t testing.TB, client redis.UniversalClient, cfg Config) *world {
	t.Helper()
	clock := testenv.NewClock(time.Now().Truncate(time.Millisecond))
	cfg.RedisTimeout = cmp.Or(cfg.RedisTimeout, testenv.RedisTimeout)
	n, err := New(cfg, Deps{Log: testenv.Logger(t), Redis: client, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := event.NewIDs(7, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, Notify: n, clock: clock, ids: ids}
}

// event makes an event that happens now.
func (w *world) event(data proto.Message) event.Event {
	w.clock.Advance(time.Millisecond)
	return event.Event{ID: w.ids.Next(), Time: w.clock.Now(), Source: "test", Data: data}
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
