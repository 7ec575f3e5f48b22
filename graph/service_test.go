package graph_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"activityfeed/graph"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rpc"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

var now = time.Date(2026, 11, 22, 10, 20, 30, 456e6, time.UTC)

// asked is a question to the store of follows.
type asked struct {
	List  string
	User  string
	Size  int
	Token string
}

// follows answers every question alike and remembers it.
type follows struct {
	mu    sync.Mutex
	asked []asked
	err   error
}

func (f *follows) page(ctx context.Context, q asked) ([]string, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, q)
	if _, ok := ctx.Deadline(); !ok {
		return nil, "", errors.New("no deadline")
	}
	return []string{q.List + "1", q.List + "2"}, "next", f.err
}

func (f *follows) Followers(ctx context.Context, user string, size int, token string) ([]string, string, error) {
	return f.page(ctx, asked{"follower", user, size, token})
}

func (f *follows) Following(ctx context.Context, user string, size int, token string) ([]string, string, error) {
	return f.page(ctx, asked{"followee", user, size, token})
}

type publisher interface {
	PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error
}

// downPublisher is a log that does not answer.
type downPublisher struct{}

func (downPublisher) PublishContext(context.Context, string, ...*message.Message) error {
	return errors.New("dial tcp 10.0.0.7:9092: connection refused")
}

// start serves a Graph over a real connection. A nil f is a process without store.
func start(t *testing.T, cfg graph.Config, pub publisher, f *follows) pb.GraphServiceClient {
	t.Helper()
	log := testenv.Logger(t)
	ids, err := event.NewIDs(0, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	deps := graph.Deps{Log: log, Publisher: pub, IDs: ids, Source: "node-under-test"}
	if f != nil {
		deps.Follows = f
	}
	g, err := graph.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	server, err := rpc.New(rpc.Config{Addr: "127.0.0.1:0"}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Register(server.Registrar())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return pb.NewGraphServiceClient(conn)
}

// newLog returns a fresh log, a publisher to it, and what is in it.
func newLog(t *testing.T) (publisher, func() []event.Event) {
	t.Helper()
	brokers, log := testenv.Kafka(t), testenv.Logger(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 4}}); err != nil {
		t.Fatal(err)
	}
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pub.Close(); err != nil {
			t.Error(err)
		}
	})
	return pub, func() []event.Event {
		ctx, cancel := context.WithCancel(t.Context())
		tail := kafka.NewTail(kafka.TailConfig{Brokers: brokers, Topic: event.Topic}, log)
		var all []event.Event
		done := make(chan error, 1)
		go func() {
			done <- tail.Run(ctx, func(msg *message.Message) error {
				e, err := event.Decode(msg)
				all = append(all, e)
				return err
			})
		}()
		err := tail.CaughtUp(ctx)
		cancel()
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(all, func(a, b event.Event) int { return int(a.ID - b.ID) })
		return all
	}
}

// commands calls each command of the service for a user and a target.
var commands = []struct {
	name string
	call func(c pb.GraphServiceClient, ctx context.Context, user, target string) error
	fact func(user, target string) proto.Message
}{
	{"follow", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Follow(ctx, &pb.FollowRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserFollowed{FollowerId: user, FolloweeId: target, NotificationLevel: pb.NotificationLevel_NOTIFICATION_LEVEL_ALL}
	}},
	{"unfollow", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Unfollow(ctx, &pb.UnfollowRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserUnfollowed{FollowerId: user, FolloweeId: target}
	}},
	{"block", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Block(ctx, &pb.BlockRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserBlocked{ActorId: user, TargetId: target}
	}},
	{"unblock", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Unblock(ctx, &pb.UnblockRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserUnblocked{ActorId: user, TargetId: target}
	}},
	{"mute", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Mute(ctx, &pb.MuteRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserMuted{ActorId: user, TargetId: target}
	}},
	{"unmute", func(c pb.GraphServiceClient, ctx context.Context, user, target string) error {
		_, err := c.Unmute(ctx, &pb.UnmuteRequest{UserId: user, TargetId: target})
		return err
	}, func(user, target string) proto.Message {
		return &pb.UserUnmuted{ActorId: user, TargetId: target}
	}},
}

func TestEveryCommandIsOneFact(t *testing.T) {
	t.Parallel()
	pub, events := newLog(t)
	client := start(t, graph.Config{}, pub, nil)
	want := make([]proto.Message, 0, 2*len(commands))
	for _, c := range commands {
		// Twice: a repeat is a fact of the same meaning, and no error.
		for range 2 {
			if err := c.call(client, t.Context(), "ann", "bob"); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			want = append(want, c.fact("ann", "bob"))
		}
	}
	logged := events()
	got := make([]proto.Message, 0, len(logged))
	for _, e := range logged {
		got = append(got, e.Data)
		if !e.Time.Equal(e.ID.Time()) || !e.Time.Equal(now) || e.Source != "node-under-test" {
			t.Errorf("%s has time %s, id time %s, source %q", e.Type(), e.Time, e.ID.Time(), e.Source)
		}
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestFollowLogsTheLevelThatItMeans(t *testing.T) {
	t.Parallel()
	const (
		unspecified = pb.NotificationLevel_NOTIFICATION_LEVEL_UNSPECIFIED
		none        = pb.NotificationLevel_NOTIFICATION_LEVEL_NONE
		all         = pb.NotificationLevel_NOTIFICATION_LEVEL_ALL
	)
	for _, tt := range []struct {
		name, setting string
		asked, want   pb.NotificationLevel
	}{
		{"no setting, not said", "", unspecified, all},
		{"all, not said", "all", unspecified, all},
		{"none, not said", "none", unspecified, none},
		{"all, asked for none", "all", none, none},
		{"none, asked for all", "none", all, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pub, events := newLog(t)
			client := start(t, graph.Config{DefaultNotificationLevel: tt.setting}, pub, nil)
			if _, err := client.Follow(t.Context(), &pb.FollowRequest{UserId: "ann", TargetId: "bob", NotificationLevel: tt.asked}); err != nil {
				t.Fatal(err)
			}
			got := events()
			if len(got) != 1 {
				t.Fatalf("the log has %d events, want 1", len(got))
			}
			want := &pb.UserFollowed{FollowerId: "ann", FolloweeId: "bob", NotificationLevel: tt.want}
			if diff := cmp.Diff(want, got[0].Data, protocmp.Transform()); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadCommandsNameTheFieldAndNeverReachTheLog(t *testing.T) {
	t.Parallel()
	pub, events := newLog(t)
	client := start(t, graph.Config{}, pub, nil)
	for _, tt := range []struct{ name, user, target, field string }{
		{"no user", "", "bob", "user_id"},
		{"user of 65 characters", strings.Repeat("a", 65), "bob", "user_id"},
		{"user with a slash", "a/b", "bob", "user_id"},
		{"no target", "ann", "", "target_id"},
		{"target of 65 characters", "ann", strings.Repeat("a", 65), "target_id"},
		{"target with a space", "ann", "b ob", "target_id"},
		{"oneself", "ann", "ann", "target_id"},
	} {
		for _, c := range commands {
			// In sequence, as the log is looked at below.
			if err := c.call(client, t.Context(), tt.user, tt.target); !namesField(err, tt.field) {
				t.Errorf("%s, %s: %v does not name the field %s", c.name, tt.name, err, tt.field)
			}
		}
	}
	if _, err := client.Follow(t.Context(), &pb.FollowRequest{UserId: "ann", TargetId: "bob", NotificationLevel: 7}); !namesField(err, "notification_level") {
		t.Errorf("follow, unknown level: %v", err)
	}
	if got := events(); len(got) != 0 {
		t.Errorf("the log has %v", got)
	}
}

// namesField says whether err is INVALID_ARGUMENT and names the field, and no other.
func namesField(err error, field string) bool {
	st := status.Convert(err)
	var named []string
	for _, d := range st.Details() {
		for _, v := range d.(*errdetails.BadRequest).GetFieldViolations() {
			named = append(named, v.GetField())
		}
	}
	return st.Code() == codes.InvalidArgument && slices.Equal(named, []string{field}) && strings.HasPrefix(st.Message(), field+": ")
}

func TestLogThatDoesNotAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	client := start(t, graph.Config{}, downPublisher{}, nil)
	for _, c := range commands {
		st := status.Convert(c.call(client, t.Context(), "ann", "bob"))
		if want := "the log did not accept the " + c.name; st.Code() != codes.Unavailable || st.Message() != want {
			t.Errorf("%s: status = %v, want %s %q", c.name, st, codes.Unavailable, want)
		}
	}
}

func TestListsAreReadThroughTheStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		size int32
		want int
	}{
		{"no size", 0, 100},
		{"one", 1, 1},
		{"largest", 1000, 1000},
		{"too large", 1001, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := new(follows)
			client := start(t, graph.Config{}, downPublisher{}, store)
			followers, err := client.ListFollowers(t.Context(), &pb.ListFollowersRequest{UserId: "ann", PageSize: tt.size, PageToken: "p"})
			if err != nil {
				t.Fatal(err)
			}
			following, err := client.ListFollowing(t.Context(), &pb.ListFollowingRequest{UserId: "bob", PageSize: tt.size})
			if err != nil {
				t.Fatal(err)
			}
			got := []proto.Message{followers, following}
			want := []proto.Message{
				&pb.ListFollowersResponse{FollowerIds: []string{"follower1", "follower2"}, NextPageToken: "next"},
				&pb.ListFollowingResponse{FolloweeIds: []string{"followee1", "followee2"}, NextPageToken: "next"},
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]asked{{"follower", "ann", tt.want, "p"}, {"followee", "bob", tt.want, ""}}, store.asked); diff != "" {
				t.Errorf("the store was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestListsFailAsTheirStoreDoes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		store *follows
		want  codes.Code
	}{
		{"bad token", &follows{err: fault.Invalid("page_token", "not one of ours")}, codes.InvalidArgument},
		{"store down", &follows{err: fault.Outage("read followers", errors.New("LOADING"))}, codes.Unavailable},
		{"a bug", &follows{err: errors.New("nil map")}, codes.Internal},
		{"no store in this process", nil, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := start(t, graph.Config{}, downPublisher{}, tt.store)
			_, followers := client.ListFollowers(t.Context(), &pb.ListFollowersRequest{UserId: "ann"})
			_, following := client.ListFollowing(t.Context(), &pb.ListFollowingRequest{UserId: "ann"})
			if a, b := status.Code(followers), status.Code(following); a != tt.want || b != tt.want {
				t.Errorf("codes = %s, %s, want %s", a, b, tt.want)
			}
		})
	}
}

func TestListsRefuseBadRequests(t *testing.T) {
	t.Parallel()
	store := new(follows)
	client := start(t, graph.Config{}, downPublisher{}, store)
	for _, tt := range []struct {
		name, user string
		size       int32
		token      string
		field      string
	}{
		{"no user", "", 0, "", "user_id"},
		{"negative size", "ann", -1, "", "page_size"},
		{"token of 513 characters", "ann", 0, strings.Repeat("a", 513), "page_token"},
	} {
		_, followers := client.ListFollowers(t.Context(), &pb.ListFollowersRequest{UserId: tt.user, PageSize: tt.size, PageToken: tt.token})
		_, following := client.ListFollowing(t.Context(), &pb.ListFollowingRequest{UserId: tt.user, PageSize: tt.size, PageToken: tt.token})
		if !namesField(followers, tt.field) || !namesField(following, tt.field) {
			t.Errorf("%s: %v, %v do not name the field %s", tt.name, followers, following, tt.field)
		}
	}
	if len(store.asked) != 0 {
		t.Errorf("the store was asked %v", store.asked)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  graph.Config
		want []string
	}{
		{"all faults of the settings", graph.Config{DefaultNotificationLevel: "some", PublishTimeout: -1, ListTimeout: -1}, []string{`"some"`, "publish-timeout", "list-timeout"}},
		{"missing deps", graph.Config{}, []string{"Publisher", "IDs", "Source"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := graph.New(tt.cfg, graph.Deps{})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %v, want it to name %q", err, want)
				}
			}
		})
	}
}
