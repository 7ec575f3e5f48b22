package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/rpc"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// post appends a post to the log and returns its id.
func (w *world) post(log *memoryLog, author string) string {
	id := w.ids.Next()
	w.happen(log, posted(author, id, w.clock.Now()))
	return id.String()
}

// wantLines waits for so many messages and compares them.
func (s *memoryStream) wantLines(t testing.TB, want ...string) string {
	t.Helper()
	n := 0
	got, _ := s.until(t, func(*pb.WatchFeedResponse) bool { n++; return n == len(want) })
	if diff := cmp.Diff(want, lines(got)); diff != "" {
		t.Fatalf("stream (-want +got):\n%s", diff)
	}
	return got[len(got)-1].GetCursor()
}

func TestWatchFeed(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	n := w.liveNode(t, log, smallConfig(), Deps{})
	both := func(facts ...proto.Message) { // the consumer is as far as the tail
		w.happen(log, facts...)
		for _, e := range log.facts[len(log.facts)-len(facts):] {
			if err := n.deliver(t.Context(), e, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	post := func(author string) string {
		id := w.ids.Next()
		both(posted(author, id, w.clock.Now()))
		return id.String()
	}
	both(followed("bob", "ann"), followed("bob", "eve"))
	old := post("ann")

	phone, laptop := n.live(t, "bob", ""), n.live(t, "bob", "")
	want := []string{"caught up", post("ann")}
	post("cid") // a stranger
	want = append(want, post("bob"))
	both(followed("bob", "cid"))
	want = append(want, post("cid"))
	both(unfollowed("bob", "cid"), &pb.UserMuted{ActorId: "bob", TargetId: "ann"}, &pb.UserBlocked{ActorId: "eve", TargetId: "bob"})
	post("cid")
	hidden := []string{post("ann"), post("eve")}
	both(&pb.UserUnmuted{ActorId: "bob", TargetId: "ann"}, &pb.UserUnblocked{ActorId: "eve", TargetId: "bob"})
	want = append(want, post("ann"), post("eve"))
	both(deleted("ann", old), deleted("eve", want[1])) // the second one is another one's post
	want = append(want, "removed "+old, "removed "+want[1])
	both(&pb.UserSawFeed{UserId: "bob", PostId: old}, &pb.UserSawFeed{UserId: "bob", PostId: old})
	want = append(want, "seen "+old)
	both(posted("ann", mustID(t, want[1]), w.clock.Now())) // the log has it twice
	want = append(want, post("ann"))
	cursor := phone.wantLines(t, want...)
	laptop.wantLines(t, want...)

	// Away for a while, then back on another node. What was hidden when it came, and
	// stands in the feed now, is told as well.
	phone.stop()
	missed := []string{post("ann"), post("eve")}
	both(deleted("ann", missed[0]))
	again := w.liveNode(t, log, smallConfig(), Deps{}).live(t, "bob", cursor)
	again.wantLines(t, hidden[0], hidden[1], missed[1], "caught up", post("ann"))
}

// A page says where to watch from: nothing between the two is left out or repeated.
func TestWatchGoesOnFromAPage(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	n := w.liveNode(t, log, smallConfig(), Deps{})
	n.apply(t, followed("bob", "ann"))
	for range 5 {
		n.post(t, "ann")
	}
	page, err := n.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	between := n.post(t, "ann")
	n.live(t, "bob", page.GetWatchCursor()).wantLines(t, between, "caught up", w.post(log, "ann"))
	next, err := n.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 2, PageToken: page.GetNextPageToken()})
	if err != nil || next.GetWatchCursor() != "" {
		t.Errorf("a later page has the cursor %q, error %v", next.GetWatchCursor(), err)
	}
}

// What the log has and Redis does not yet is on a stream all the same.
func TestWatchBeginsAheadOfRedis(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	n := w.liveNode(t, log, smallConfig(), Deps{})
	page, err := n.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	w.happen(log, followed("bob", "ann"), followed("bob", "cid"), followed("bob", "dan"), &pb.UserMuted{ActorId: "bob", TargetId: "dan"})
	missed := []string{w.post(log, "ann"), w.post(log, "cid"), w.post(log, "ann")}
	w.post(log, "dan")
	w.happen(log, unfollowed("bob", "cid"), deleted("ann", missed[0]))
	if err := n.tail.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.live(t, "bob", page.GetWatchCursor()).wantLines(t, missed[2], "caught up", w.post(log, "ann"))
}

func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	cfg := Config{WatchStart: 50 * time.Millisecond}
	up := w.liveNode(t, log, Config{}, Deps{})
	behind := w.liveNode(t, log, cfg, Deps{Behind: func(context.Context, map[int32]int64) (bool, error) { return true, nil }})
	alone := &liveNode{process: w.process(t, cfg)}
	up.apply(t, followed("bob", "ann"))
	for range mostBacklog + 1 {
		up.post(t, "ann")
	}
	t.Cleanup(func() {
		if n := len(up.hub.interest.readers) + len(up.hub.interest.authors); n > 0 {
			t.Errorf("%d entries stay in the index", n)
		}
	})
	early := placeAfter(nil, false, w.clock.Now().Add(-time.Hour))
	for _, tt := range []struct {
		name   string
		node   *liveNode
		cursor string
		want   func(error) bool
	}{
		{"no tail", alone, "", unavailable},
		{"consumers far behind", behind, "", unavailable},
		{"not a cursor", up, "AAAA", invalidCursor},
		{"another one's cursor", up, early.token(cursorOf("ann")), invalidCursor},
		{"a page token", up, tokenList{kind: "home", user: "bob"}.cursorToken(w.ids.Next()), invalidCursor},
		{"too far back", up, early.token(cursorOf("bob")), func(err error) bool { return status.Code(err) == codes.OutOfRange }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.node.watch("bob", tt.cursor)
			<-s.ended
			if !tt.want(s.err) || len(s.got) > 0 {
				t.Errorf("WatchFeed = %v after %v", s.err, lines(s.got))
			}
		})
	}
}

func unavailable(err error) bool { return fault.KindOf(err) == fault.Unavailable }

func invalidCursor(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Kind == fault.InvalidArgument && f.Field == "cursor"
}

// serve puts a node behind a real server and returns connections to it.
func (n *liveNode) serve(t testing.TB, conns int) []pb.FeedServiceClient {
	t.Helper()
	server, err := rpc.New(rpc.Config{}, testenv.Logger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterFeedServiceServer(server.Registrar(), n.api)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	clients := make([]pb.FeedServiceClient, conns)
	for i := range clients {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		clients[i] = pb.NewFeedServiceClient(conn)
	}
	return clients
}

// A client that does not read is cut off with a status that says what to do, and
// goes on where it was.
func TestSlowClientIsCutOffAndResumes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  Config
	}{
		{"its news pile up", Config{WatchQueue: 20, SlowClient: time.Minute}},
		{"it is stuck", Config{WatchQueue: 100_000, SlowClient: time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, log := newMiniWorld(t), newMemoryLog()
			n := w.liveNode(t, log, tt.cfg, Deps{})
			client := n.serve(t, 1)[0]
			n.apply(t, followed("bob", "ann"))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := client.WatchFeed(ctx, &pb.WatchFeedRequest{UserId: "bob"})
			if err != nil {
				t.Fatal(err)
			}
			if first, err := stream.Recv(); err != nil || !first.GetCaughtUp() {
				t.Fatalf("Recv = %v, %v", first, err)
			}
			var want []string
			for range 400 { // 900 KB: more than the buffers between us hold
				fact := posted("ann", w.ids.Next(), w.clock.Now())
				fact.Photo.Caption = strings.Repeat("slow ", 440)
				want = append(want, fact.GetPhoto().GetPostId())
				w.happen(log, fact)
				n.apply(t, fact)
			}
			if tt.name == "it is stuck" {
				await(t, "the cut", func() bool { return len(n.hub.interestReaders()) == 0 })
			}
			var got []string
			cursor := ""
			for err == nil {
				var r *pb.WatchFeedResponse
				if r, err = stream.Recv(); err == nil {
					got, cursor = append(got, r.GetPhoto().GetPostId()), r.GetCursor()
				}
			}
			if s := status.Convert(err); s.Code() != codes.ResourceExhausted || !strings.Contains(s.Message(), "connect again with the cursor") {
				t.Fatalf("the stream ended with %v", err)
			}
			if err := n.tail.CaughtUp(ctx); err != nil {
				t.Fatal(err)
			}
			// On another node: it bears with a client that reads, but not all the time.
			other := w.liveNode(t, log, Config{}, Deps{})
			if err := other.tail.CaughtUp(ctx); err != nil {
				t.Fatal(err)
			}
			before := len(got)
			stream, err = other.serve(t, 1)[0].WatchFeed(ctx, &pb.WatchFeedRequest{UserId: "bob", Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for r := new(pb.WatchFeedResponse); !r.GetCaughtUp(); {
				if r, err = stream.Recv(); err != nil {
					t.Fatal(err)
				}
				if !r.GetCaughtUp() {
					got = append(got, r.GetPhoto().GetPostId())
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || before == len(got) {
				t.Errorf("posts over both streams, %d on the first (-want +got):\n%s", before, diff)
			}
		})
	}
}

func (h *hub) interestReaders() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var users []string
	for user := range h.interest.readers {
		users = append(users, user)
	}
	return users
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// Streams open and close while facts come: for the race detector, and nothing stays
// behind in the index.
func TestWatchersComeAndGo(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	n := w.liveNode(t, log, smallConfig(), Deps{})
	users := []string{"ann", "bob", "cid", "dan"}
	var group sync.WaitGroup
	for seed := range uint64(6) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				a, b := users[rng.IntN(4)], users[rng.IntN(4)]
				switch rng.IntN(6) {
				case 0, 1:
					s := n.watch(a, "")
					if rng.IntN(2) == 0 {
						s.until(t, isCaughtUp)
					}
					s.stop()
				case 2, 3:
					w.post(log, a)
				case 4:
					if a != b {
						w.happen(log, followed(a, b))
					}
				case 5:
					if a != b {
						w.happen(log, unfollowed(a, b), &pb.UserBlocked{ActorId: a, TargetId: b}, &pb.UserUnblocked{ActorId: a, TargetId: b})
					}
				}
			}
		})
	}
	group.Wait()
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if r, a := len(n.hub.interest.readers), len(n.hub.interest.authors); r+a > 0 {
		t.Errorf("%d readers and %d authors stay in the index", r, a)
	}
}

// Ten thousand people watch one node over real connections.
func TestTenThousandWatchers(t *testing.T) {
	const (
		people  = 10_000
		authors = 2_000
		conns   = 20
	)
	follows, posts := 150, 200
	if raced {
		follows, posts = 10, 20
	}
	w, log := newWorld(t, single(testenv.Redis(t))), newMemoryLog()
	n := w.liveNode(t, log, Config{WatchStart: time.Minute}, Deps{})
	clients := n.serve(t, conns)
	rng := rand.New(rand.NewPCG(1, 1))
	watching := make([]int, authors) // how many watch an author
	for user := range people {
		fields := []any{"star", "1000000000000000000"}
		for _, author := range rng.Perm(authors)[:follows] {
			fields = append(fields, fmt.Sprintf("author%d", author), "1000000000000000000")
			watching[author]++
		}
		name := fmt.Sprintf("user%d", user)
		// Their feeds are warm: who watches has read.
		err := errors.Join(w.raw.HSet(t.Context(), following.key(name), fields...).Err(), w.raw.RPush(t.Context(), feedKey(name), sentinel).Err())
		if err != nil {
			t.Fatal(err)
		}
	}
	before := memory()
	begin := time.Now()
	streams := make([]grpc.ServerStreamingClient[pb.WatchFeedResponse], people)
	var group sync.WaitGroup
	for c, client := range clients {
		group.Go(func() {
			for user := c; user < people; user += conns {
				stream, err := client.WatchFeed(t.Context(), &pb.WatchFeedRequest{UserId: fmt.Sprintf("user%d", user)})
				if err != nil {
					t.Error(err)
					return
				}
				if r, err := stream.Recv(); err != nil || !r.GetCaughtUp() {
					t.Errorf("Recv = %v, %v", r, err)
					return
				}
				streams[user] = stream
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	opened, used := time.Since(begin), memory()-before

	begin = time.Now()
	star := w.post(log, "star")
	for user, stream := range streams {
		if r, err := stream.Recv(); err != nil || r.GetPhoto().GetPostId() != star {
			t.Fatalf("user%d got %v, %v, want post %s", user, r, err, star)
		}
	}
	toAll := time.Since(begin)

	begin = time.Now()
	deliveries := 0
	var last string
	for range posts {
		author := rng.IntN(authors)
		w.post(log, fmt.Sprintf("author%d", author))
		deliveries += watching[author]
	}
	last = w.post(log, "star")
	got := 0
	for _, stream := range streams {
		for {
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.GetPhoto().GetPostId() == last {
				break
			}
			got++
		}
	}
	rest := time.Since(begin)
	if got != deliveries {
		t.Errorf("%d deliveries, want %d", got, deliveries)
	}
	t.Logf("%d watchers of %d followees: opened in %v; %.1f KB each, both ends of the connection in this process; "+
		"one post to all in %v; %d posts, %d deliveries in %v (%.0f/s)",
		people, follows+1, opened.Round(time.Millisecond), float64(used)/people/1024,
		toAll.Round(time.Millisecond), posts+1, deliveries+people, rest.Round(time.Millisecond), float64(deliveries+people)/rest.Seconds())
}

// memory returns the bytes of heap and stacks in use.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	ago := func(d time.Duration, n int) event.ID { return event.FirstID(now.Add(-d)) + event.ID(n) }
	list := cursorOf("bob")
	t.Run("a page", func(t *testing.T) {
		t.Parallel()
		p := placeAfter([]event.ID{ago(0, 2), ago(0, 1), ago(time.Minute, 0), ago(time.Hour, 0)}, true, now)
		for _, tt := range []struct {
			name string
			id   event.ID
			new  bool
		}{
			{"on the page", ago(0, 1), false},
			{"newer", ago(0, 3), true},
			{"late, between two of the page", ago(time.Second, 0), true},
			{"minutes late", ago(lateness+time.Second, 0), false},
		} {
			if p.has(tt.id) == tt.new {
				t.Errorf("%s: has = %v", tt.name, !tt.new)
			}
		}
	})
	t.Run("a page that does not reach back", func(t *testing.T) {
		t.Parallel()
		p := placeAfter([]event.ID{ago(0, 2), ago(time.Second, 0)}, true, now)
		if !p.has(ago(2*time.Second, 0)) || p.has(ago(0, 0)) {
			t.Error("what the next page has counts as new, or the other way round")
		}
	})
	t.Run("over a token", func(t *testing.T) {
		t.Parallel()
		p := &place{}
		rng := rand.New(rand.NewPCG(7, 7))
		for range 3 * mostMet {
			p.meet(ago(time.Duration(rng.Int64N(int64(lateness))), rng.IntN(100)))
		}
		got, err := parsePlace(list, p.token(list))
		if err != nil || got.floor != p.floor || !slices.Equal(got.met, p.met) {
			t.Errorf("parsePlace(token) = %v, %v, want %v", got, err, p)
		}
		if n := len(p.token(list)); n > 700 {
			t.Errorf("a full token has %d characters", n)
		}
	})
}

// What ends while news waits for a slow stream is taken back.
func TestNewsThatWaitIsTakenBack(t *testing.T) {
	t.Parallel()
	w, log := newMiniWorld(t), newMemoryLog()
	n := w.liveNode(t, log, smallConfig(), Deps{})
	n.apply(t, followed("bob", "ann"), followed("bob", "cid"), followed("bob", "dan"), followed("bob", "eve"))
	stream, _, err := n.hub.join(t.Context(), "bob", 100)
	if err != nil {
		t.Fatal(err)
	}
	defer n.hub.streams.Done() // there is no sender
	defer n.hub.leave(stream)
	deletedPost := w.post(log, "ann")
	kept := w.post(log, "ann")
	for _, author := range []string{"cid", "dan", "eve"} {
		w.post(log, author)
	}
	w.happen(log, deleted("ann", deletedPost), unfollowed("bob", "cid"),
		&pb.UserMuted{ActorId: "bob", TargetId: "dan"}, &pb.UserBlocked{ActorId: "eve", TargetId: "bob"})
	if err := n.tail.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		n, ok, full := stream.take()
		if !ok {
			if full {
				t.Error("the queue was full")
			}
			break
		}
		got = append(got, fmt.Sprint(n.kind == newPost, n.post))
	}
	if diff := cmp.Diff([]string{"true " + kept, "false " + deletedPost}, got); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}
}
