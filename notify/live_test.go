package notify

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/rpc"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// served is a world behind a real gRPC server.
type served struct {
	*world

	client pb.NotificationServiceClient
	// stop ends Run and waits for it.
	stop func()
}

func serve(t testing.TB, client redis.UniversalClient, cfg Config) *served {
	t.Helper()
	s := &served{world: newWorld(t, client, cfg)}
	server, err := rpc.New(rpc.Config{}, testenv.Logger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Register(server.Registrar())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	runCtx, stop := context.WithCancel(ctx)
	running := make(chan struct{})
	group.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	group.Go(func() {
		defer close(running)
		if err := s.Run(runCtx); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	s.stop = func() { stop(); <-running }
	t.Cleanup(func() { cancel(); stop(); group.Wait() })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s.client = pb.NewNotificationServiceClient(conn)
	return s
}

// watch is an open stream, read line by line.
type watch struct {
	t      testing.TB
	stream grpc.ServerStreamingClient[pb.WatchNotificationsResponse]
	cancel func()
}

func (s *served) watch(t testing.TB, user string, after event.ID) *watch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	req := &pb.WatchNotificationsRequest{UserId: user}
	if after != 0 {
		req.AfterNotificationId = after.String()
	}
	stream, err := s.client.WatchNotifications(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return &watch{t: t, stream: stream, cancel: cancel}
}

// live waits until so many streams have had their first view.
func (s *served) live(t testing.TB, streams int) {
	t.Helper()
	testenv.Await(t, fmt.Sprintf("%d live streams", streams), func() bool { return testenv.Value(t, s.hub.metrics.watchers) == float64(streams) })
}

func (w *watch) recv() *pb.WatchNotificationsResponse {
	w.t.Helper()
	resp, err := w.stream.Recv()
	if err != nil {
		w.t.Fatalf("Recv = %v", err)
	}
	return resp
}

// want reads rows, "mention ann 0001: 1 unread", and compares them.
func (w *watch) want(want ...string) {
	w.t.Helper()
	got := make([]string, 0, len(want))
	for range want {
		resp := w.recv()
		got = append(got, fmt.Sprintf("%s: %d unread", line(resp.GetNotification()), resp.GetUnreadCount()))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("stream (-want +got):\n%s", diff)
	}
}

// ends wants the stream to end with a status.
func (w *watch) ends(code codes.Code) {
	w.t.Helper()
	for {
		_, err := w.stream.Recv()
		if err == nil {
			continue // sent before the end
		}
		if status.Code(err) != code {
			w.t.Errorf("stream ended with %v, want %s", err, code)
		}
		return
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		s := serve(t, client, Config{})
		s.happen(posted("ann", 1, "bob"))

		phone := s.watch(t, "bob", 0)
		s.live(t, 1)
		second := s.happen(posted("ann", 2, "bob"))
		phone.want("mention ann 0002: 2 unread")
		s.happen(followed("cid", "bob", levelUnset))
		phone.want("follow cid: 3 unread")

		// A second device comes, and knows the second row.
		tablet := s.watch(t, "bob", second)
		tablet.want("follow cid: 3 unread")
		s.happen(posted("ann", 4, "bob"))
		for _, w := range []*watch{phone, tablet} {
			w.want("mention ann 0004: 4 unread")
		}

		// The phone goes away, and misses three rows, one of them gone again.
		phone.cancel()
		var last event.ID
		for n := range 3 {
			last = s.happen(posted("ann", 5+n, "bob"))
			tablet.want(fmt.Sprintf("mention ann %04d: %d unread", 5+n, 5+n))
		}
		s.happen(deleted("ann", 6))
		phone = s.watch(t, "bob", second)
		phone.want("follow cid: 6 unread", "mention ann 0004: 6 unread", "mention ann 0005: 6 unread", "mention ann 0007: 6 unread")

		// Hidden rows are not sent.
		s.happen(blocked("bob", "eve"))
		s.happen(posted("eve", 8, "bob"))
		if _, err := s.client.MarkRead(t.Context(), &pb.MarkReadRequest{
			UserId: "bob", What: &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: last.String()},
		}); err != nil {
			t.Fatal(err)
		}
		s.happen(posted("ann", 9, "bob"))
		for _, w := range []*watch{phone, tablet} {
			w.want("mention ann 0009: 1 unread")
		}
	})
}

// Rows may come in any order of their ids; a stream sends each once, and a client
// that was away gets also those older than the newest it has.
func TestWatchSendsLateRows(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		s := serve(t, client, Config{})
		late := []event.Event{s.event(posted("ann", 1, "bob")), s.event(posted("cid", 2, "bob"))}
		w := s.watch(t, "bob", 0)
		s.live(t, 1)
		newest := s.happen(posted("dan", 3, "bob"))
		w.want("mention dan 0003: 1 unread")
		s.handle(late[0])
		w.want("mention ann 0001: 2 unread")
		s.handle(late[0])
		w.cancel()
		s.handle(late[1])
		w = s.watch(t, "bob", newest)
		// Whether the client has the first one, its newest id does not tell.
		w.want("mention ann 0001: 3 unread", "mention cid 0002: 3 unread")
		s.happen(posted("eve", 4, "bob"))
		w.want("mention eve 0004: 4 unread")
	})
}

// Streams come and go while rows are added by many writers: no row is missed, and
// none comes twice in one stream.
func TestWatchHasNoGaps(t *testing.T) {
	t.Parallel()
	const rows, writers = 400, 4
	s := serve(t, realRedis(t), Config{InboxRows: 2 * rows})
	events := make(chan event.Event, rows)
	want := map[string]bool{}
	for n := range rows {
		e := s.event(posted("ann", n, "bob"))
		want[e.ID.String()] = true
		events <- e
	}
	close(events)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for e := range events {
				s.handle(e)
			}
		})
	}
	got := map[string]bool{}
	after := event.ID(1_000_000_000_000_000_000) // before all rows
	for len(got) < rows {
		w := s.watch(t, "bob", after)
		inStream := map[string]bool{}
		for range 40 {
			n := w.recv().GetNotification()
			id := n.GetNotificationId()
			if inStream[id] {
				t.Fatalf("row %s came twice in one stream", id)
			}
			inStream[id], got[id] = true, true
			parsed, _ := event.ParseID(id)
			after = max(after, parsed)
			if len(got) == rows {
				break
			}
		}
		w.cancel()
	}
	group.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestHundredsOfWatchers(t *testing.T) {
	t.Parallel()
	const users, devices, posts = 150, 3, 4
	s := serve(t, realRedis(t), Config{})
	names := make([]string, 0, users)
	watches := make([]*watch, 0, users*devices)
	for u := range users {
		names = append(names, fmt.Sprintf("user%03d", u))
		s.handle(s.event(followed(names[u], "ann", levelEvery)))
		for range devices {
			watches = append(watches, s.watch(t, names[u], 0))
		}
	}
	s.live(t, users*devices)
	if got := pubsubConnections(t, s.deps.Redis); got != 1 {
		t.Errorf("%d connections listen, want one for all", got)
	}
	for n := range posts {
		s.happen(posted("ann", n))
	}
	for _, w := range watches {
		got := make([]string, 0, posts)
		for range posts {
			got = append(got, w.recv().GetNotification().GetPostId()[15:])
		}
		if diff := cmp.Diff([]string{"0000", "0001", "0002", "0003"}, got); diff != "" {
			t.Fatalf("posts (-want +got):\n%s", diff)
		}
	}
	for _, w := range watches {
		w.cancel()
	}
	s.live(t, 0)
	testenv.Await(t, "the channels to be unsubscribed", func() bool {
		return len(s.deps.Redis.PubSubChannels(t.Context(), "*").Val()) == 0
	})
}

func pubsubConnections(t testing.TB, client redis.UniversalClient) int {
	t.Helper()
	list, err := client.Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "id=")
}

// What happened while the connection was broken comes when it is back.
func TestWatchOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, realRedis(t), Config{})
	w := s.watch(t, "bob", 0)
	s.live(t, 1)
	for n := range 5 {
		if killed := s.deps.Redis.Do(t.Context(), "client", "kill", "type", "pubsub").Val(); killed != int64(1) {
			t.Fatalf("killed %v connections, want 1", killed)
		}
		s.happen(posted("ann", n, "bob"))
		w.want(fmt.Sprintf("mention ann %04d: %d unread", n, n+1))
		testenv.Await(t, "the next connection", func() bool { return pubsubConnections(t, s.deps.Redis) == 1 })
	}
}

// A Redis that is away for a while ends no stream that has begun.
func TestWatchOutlivesRedis(t *testing.T) {
	t.Parallel()
	cfg := embedded.RedisConfig{
		Dir: t.TempDir(), Binary: "redis-server", Port: testenv.FreePort(t), Settings: map[string]string{"appendfsync": "always"},
	}
	server := testenv.RedisServer(t, cfg)
	s := serve(t, testenv.RedisClient(t, server.Addr()), Config{})
	w := s.watch(t, "bob", 0)
	s.live(t, 1)
	s.happen(posted("ann", 1, "bob"))
	w.want("mention ann 0001: 1 unread")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	// Longer than calls have that bring no deadline: whatever keeps Redis from refusing, it is an outage.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client.GetUnreadCount(ctx, &pb.GetUnreadCountRequest{UserId: "bob"}); status.Code(err) != codes.Unavailable {
		t.Errorf("GetUnreadCount without Redis = %v, want %s", err, codes.Unavailable)
	}
	testenv.RedisServer(t, cfg)
	testenv.Await(t, "Redis to answer", func() bool { return s.deps.Redis.Ping(t.Context()).Err() == nil })
	s.happen(posted("ann", 2, "bob"))
	w.want("mention ann 0002: 2 unread")
}

func TestWatchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := serve(t, realRedis(t), Config{})
	w := s.watch(t, "bob", 0)
	s.live(t, 1)
	s.stop()
	w.ends(codes.Unavailable)
	s.watch(t, "bob", 0).ends(codes.Unavailable)
	if got := testenv.Value(t, s.hub.metrics.watchers); got != 0 {
		t.Errorf("watchers = %v after the end", got)
	}
}

func TestWatchIsRefusedWithoutRedis(t *testing.T) {
	t.Parallel()
	// Nobody listens there; a port that was free a moment ago may be another test's Redis.
	s := serve(t, testenv.RedisClient(t, "127.0.0.1:1"), Config{WatchStart: 100 * time.Millisecond})
	s.watch(t, "bob", 0).ends(codes.Unavailable)
}

func TestWatchOfABrokenInboxSparesOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, realRedis(t), Config{})
	if err := s.deps.Redis.Set(t.Context(), inboxKey("bob"), "no list", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cid := s.watch(t, "cid", 0)
	s.live(t, 1)
	bob := s.watch(t, "bob", 0)
	bob.ends(codes.Internal)
	s.happen(posted("ann", 1, "cid"))
	cid.want("mention ann 0001: 1 unread")
}

// A client that does not read is cut off, and the others go on.
func TestSlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	const rows = 3000
	s := serve(t, realRedis(t), Config{InboxRows: rows, SlowClient: time.Second})
	long := strings.Repeat("a", 64)
	for range rows {
		id := s.event(nil).ID
		if _, _, err := s.service.store.insert(t.Context(), row{id: id, kind: mention, actor: long, post: id}, []string{"bob"}); err != nil {
			t.Fatal(err)
		}
	}
	slow := s.watch(t, "bob", 1_000_000_000_000_000_000)
	testenv.Await(t, "the slow client to be cut off", func() bool { return testenv.Value(t, s.hub.metrics.slow) == 1 })
	s.live(t, 0)
	slow.ends(codes.ResourceExhausted)

	quick := s.watch(t, "bob", 0)
	s.live(t, 1)
	s.happen(posted("ann", 1, "bob"))
	quick.want(fmt.Sprintf("mention ann 0001: %d unread", rows))
}

func TestCursor(t *testing.T) {
	t.Parallel()
	see := func(rs ...row) view {
		v := view{}
		for _, r := range rs {
			v.entries = append(v.entries, entry{row: r})
		}
		slices.SortFunc(v.entries, func(a, b entry) int { return int(b.id - a.id) })
		return v
	}
	for _, tt := range []struct {
		name  string
		after event.ID
		views []view
		want  [][]event.ID
	}{
		{
			"no id: what is there is known", 0,
			[]view{see(row{id: 1}, row{id: 2}), see(row{id: 1}, row{id: 2}, row{id: 3})},
			[][]event.ID{nil, {3}},
		},
		{
			"an id: all after it, oldest first", 1,
			[]view{see(row{id: 1}, row{id: 2}, row{id: 3})},
			[][]event.ID{{2, 3}},
		},
		{
			"an id that is not there", 5,
			[]view{see(row{id: 4}, row{id: 6})},
			[][]event.ID{{6}},
		},
		{
			"the same view again", 1,
			[]view{see(row{id: 2}), see(row{id: 2})},
			[][]event.ID{{2}, nil},
		},
		{
			"a late row while the stream is open", 0,
			[]view{see(row{id: 5}), see(row{id: 5}, row{id: 3, newest: 5})},
			[][]event.ID{nil, {3}},
		},
		{
			"a late row from before the client's newest", 5,
			[]view{see(row{id: 5}, row{id: 3, newest: 4})},
			[][]event.ID{nil},
		},
		{
			"a late row from after it", 5,
			[]view{see(row{id: 6}, row{id: 5}, row{id: 3, newest: 6})},
			[][]event.ID{{3, 6}},
		},
		{
			"an inbox that is lost and written again", 0,
			[]view{see(row{id: 2}, row{id: 3}), see(), see(row{id: 2}), see(row{id: 2}, row{id: 3}, row{id: 4})},
			[][]event.ID{nil, nil, nil, {4}},
		},
		{
			"old rows of an inbox that is written again", 5,
			[]view{see(), see(row{id: 1}), see(row{id: 1}, row{id: 2}), see(row{id: 2}, row{id: 6})},
			[][]event.ID{nil, nil, nil, {6}},
		},
		{
			"a small memory forgets the oldest, and they stay known", 0,
			[]view{see(row{id: 1}, row{id: 2}, row{id: 3}), see(row{id: 4}, row{id: 5}, row{id: 6}), see(row{id: 1}, row{id: 2}, row{id: 7})},
			[][]event.ID{nil, {4, 5, 6}, {7}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCursor(tt.views[0], tt.after, 2)
			for i, v := range tt.views {
				var got []event.ID
				for _, r := range c.advance(v) {
					got = append(got, r.id)
				}
				if diff := cmp.Diff(tt.want[i], got); diff != "" {
					t.Errorf("view %d (-want +got):\n%s", i, diff)
				}
			}
			if len(c.met) > 4 {
				t.Errorf("remembers %d ids of an inbox of 2", len(c.met))
			}
		})
	}
}
