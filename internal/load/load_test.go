package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
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
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestRunSendsThePlan(t *testing.T) {
	t.Parallel()
	for _, interleave := range []bool{false, true} {
		f := newFakeServer(t)
		cfg := busy(starGraph(200))
		cfg.Posts, cfg.Interleave, cfg.NotificationLevel = 500, interleave, "all"
		settled := 0
		clients := f.clients(t)
		clients.Settle = func(context.Context) error { settled++; return nil }
		var out bytes.Buffer
		res, err := Run(t.Context(), cfg, clients, &out)
		if err != nil {
			t.Fatal(err)
		}
		f.check(t, cfg)
		if res.Retries != 0 || res.Reads != 100 || f.reads != 100 {
			t.Errorf("%d retries, %d reads (the server says %d); want 0, 100, 100", res.Retries, res.Reads, f.reads)
		}
		if want := map[bool]int{false: 1, true: 0}[interleave]; settled != want {
			t.Errorf("interleave %v: settled %d times, want %d", interleave, settled, want)
		}
		if diff := cmp.Diff(f.accepted(), res.Accepted); diff != "" {
			t.Errorf("accepted (-server +load):\n%s", diff)
		}
		var table bytes.Buffer
		if err := res.Write(&table); err != nil {
			t.Fatal(err)
		}
		for want, text := range map[string]string{"│ PhotoPosted │ 500 │": table.String(), "(100.0 %)": out.String()} {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(out.String(), "│") {
			t.Errorf("the result is among the progress:\n%s", &out)
		}
	}
}

// The server fails half of the time, half of these after it did the work. Nothing
// is lost, no post is there twice, every key keeps its order.
func TestRunOutlastsFailures(t *testing.T) {
	t.Parallel()
	f := newFakeServer(t)
	var calls sync.Map // request -> attempts
	f.fate = func(req proto.Message) fate {
		n, _ := calls.LoadOrStore(key(req), new(int))
		attempts := n.(*int) // one request has one caller at a time
		*attempts++
		switch *attempts {
		case 1:
			return failBefore
		case 2:
			return failAfter
		}
		return answer
	}
	cfg := busy(starGraph(100))
	cfg.Posts = 300
	res, err := Run(t.Context(), cfg, f.clients(t), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	f.check(t, cfg)
	if got := res.Accepted["PhotoPosted"]; got != 300 || len(f.photos) != 300 {
		t.Errorf("accepted %d posts, the server has %d; want 300", got, len(f.photos))
	}
	if res.Retries < res.Total() {
		t.Errorf("%d retries of %d commands, want more retries than commands", res.Retries, res.Total())
	}
}

// The server is killed in mid load and comes back: the run goes on.
func TestRunOutlastsARestart(t *testing.T) {
	t.Parallel()
	f := newFakeServer(t)
	killed := make(chan struct{})
	dead := false
	f.fate = func(proto.Message) fate {
		if dead || len(f.facts) < 500 {
			return answer
		}
		dead = true
		close(killed)
		return dieAfter
	}
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-killed
		f.server.Stop()
		f.start()
	}()
	cfg := busy(starGraph(100))
	cfg.Posts = 500
	res, err := Run(t.Context(), cfg, f.clients(t), new(bytes.Buffer))
	<-restarted
	if err != nil {
		t.Fatal(err)
	}
	f.check(t, cfg)
	if res.Retries == 0 || len(f.photos) != cfg.Posts {
		t.Errorf("%d retries, %d posts; want some, %d", res.Retries, len(f.photos), cfg.Posts)
	}
}

// A second run of the same plan posts nothing; another plan under the same keys is refused.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	f := newFakeServer(t)
	cfg := Config{Graph: starGraph(50), Posts: 200, Seed: 4, Deletes: 0.1}
	clients := f.clients(t)
	for range 2 {
		if _, err := Run(t.Context(), cfg, clients, new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.photos) != 200 {
		t.Errorf("two runs posted %d photos, want 200", len(f.photos))
	}
	cfg.Graph = starGraph(49)
	_, err := Run(t.Context(), cfg, clients, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "take another seed") {
		t.Errorf("Run(another plan, same seed) = %v, want advice to take another seed", err)
	}
}

func TestRunStops(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fate fate
		want string
	}{
		{"when a command is refused", refuse, "load: follow user-"},
		{"when the server stays away", failBefore, "gave up after 50ms"},
		{"and says that it may be run again", failBefore, "when the server is back, the same command with the same seed may be run again"},
		{"at a wrong setting", answer, "load: warm: 2 is no share"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeServer(t)
			f.fate = func(proto.Message) fate { return tt.fate }
			cfg := Config{Graph: starGraph(50), Patience: 50 * time.Millisecond}
			if tt.fate == answer {
				cfg.Warm = 2
			}
			res, err := Run(t.Context(), cfg, f.clients(t), new(bytes.Buffer))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "load: load:") || res.Total() != 0 {
				t.Errorf("Run() = %d accepted, %v; want 0 and error %q", res.Total(), err, tt.want)
			}
		})
	}
	t.Run("when its context ends", func(t *testing.T) {
		t.Parallel()
		f := newFakeServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.fate = func(proto.Message) fate {
			if len(f.facts) == 200 {
				cancel()
			}
			return answer
		}
		res, err := Run(ctx, Config{Graph: starGraph(500), Workers: 4}, f.clients(t), new(bytes.Buffer))
		if !errors.Is(err, context.Canceled) || res.Total() == 0 {
			t.Fatalf("Run() = %d accepted, %v; want some and %v", res.Total(), err, context.Canceled)
		}
		want := fmt.Sprintf("load: stopped after %d of 3,188 commands (context canceled); the same command with the same seed may be run again", res.Total())
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Run() = %v, want %q", err, want)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	g := starGraph(2)
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"zero values are defaults", Config{Graph: g}, nil},
		{"everything wrong", Config{Posts: -1, Deletes: -0.1, Warm: 2, NotificationLevel: "some", Workers: -1, Patience: -1, CallTimeout: -1, ProgressInterval: -1}, []string{
			"posts: -1", "deletes: -0.1", "warm: 2", `level: "some"`, "workers: -1", "patience: -1ns", "call timeout: -1ns", "progress interval: -1ns",
		}},
		{"nobody to post", Config{Graph: &Graph{}, Posts: 1}, []string{"nobody to post"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.cfg.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Validate() = %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestRunNeedsAGraph(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{}, Clients{}, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "a graph is required") {
		t.Errorf("Run(no graph) = %v, want an error that says so", err)
	}
}

type fate int

const (
	answer fate = iota
	failBefore
	failAfter
	dieAfter // kept, but the answer dies with the server: the test has to stop it
	refuse
)

// fakeServer speaks the protocol and keeps the facts in a list.
type fakeServer struct {
	pb.UnimplementedPostServiceServer
	pb.UnimplementedGraphServiceServer
	pb.UnimplementedFeedServiceServer

	// fate decides what becomes of a command. It runs under the lock.
	fate func(req proto.Message) fate

	mu       sync.Mutex
	server   *grpc.Server
	listener *bufconn.Listener
	facts    []proto.Message
	photos   map[string]*pb.Photo // by idempotency key
	ids      *event.IDs
	reads    int
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	ids, err := event.NewIDs(1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{photos: make(map[string]*pb.Photo), ids: ids, fate: func(proto.Message) fate { return answer }}
	f.start()
	t.Cleanup(func() { f.server.Stop() })
	return f
}

func (f *fakeServer) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	// A handler that outlived its server could change the order behind our back.
	server, listener := grpc.NewServer(grpc.WaitForHandlers(true)), bufconn.Listen(1<<20)
	pb.RegisterPostServiceServer(server, f)
	pb.RegisterGraphServiceServer(server, f)
	pb.RegisterFeedServiceServer(server, f)
	f.server, f.listener = server, listener
	go server.Serve(listener) // ends with Stop, which waits for it
}

func (f *fakeServer) clients(t *testing.T) Clients {
	t.Helper()
	conns, err := Dial("passthrough:fake", 2,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			f.mu.Lock()
			listener := f.listener
			f.mu.Unlock()
			return listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	return conns.Clients()
}

// accept lets fate decide and keeps the fact of a command.
func (f *fakeServer) accept(ctx context.Context, req proto.Message, do func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.fate(req) {
	case failBefore:
		return status.Error(codes.Unavailable, "before")
	case refuse:
		return status.Error(codes.PermissionDenied, "no")
	case failAfter:
		do()
		return status.Error(codes.Unavailable, "after")
	case dieAfter:
		do()
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return ctx.Err()
	default:
		do()
		return nil
	}
}

func (f *fakeServer) fact(ctx context.Context, req proto.Message) error {
	return f.accept(ctx, req, func() { f.facts = append(f.facts, proto.Clone(req)) })
}

func (f *fakeServer) PostPhoto(ctx context.Context, req *pb.PostPhotoRequest) (*pb.PostPhotoResponse, error) {
	resp := &pb.PostPhotoResponse{}
	return resp, f.accept(ctx, req, func() {
		if resp.Photo = f.photos[req.GetIdempotencyKey()]; resp.GetPhoto() != nil {
			return
		}
		resp.Photo = &pb.Photo{PostId: f.ids.Next().String(), AuthorId: req.GetUserId(), Media: req.GetMedia(), Caption: req.GetCaption(), Mentions: req.GetMentions()}
		f.photos[req.GetIdempotencyKey()] = resp.GetPhoto()
		f.facts = append(f.facts, req)
	})
}

func (f *fakeServer) DeletePhoto(ctx context.Context, req *pb.DeletePhotoRequest) (*pb.DeletePhotoResponse, error) {
	return &pb.DeletePhotoResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Follow(ctx context.Context, req *pb.FollowRequest) (*pb.FollowResponse, error) {
	return &pb.FollowResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Unfollow(ctx context.Context, req *pb.UnfollowRequest) (*pb.UnfollowResponse, error) {
	return &pb.UnfollowResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Block(ctx context.Context, req *pb.BlockRequest) (*pb.BlockResponse, error) {
	return &pb.BlockResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Unblock(ctx context.Context, req *pb.UnblockRequest) (*pb.UnblockResponse, error) {
	return &pb.UnblockResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Mute(ctx context.Context, req *pb.MuteRequest) (*pb.MuteResponse, error) {
	return &pb.MuteResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) Unmute(ctx context.Context, req *pb.UnmuteRequest) (*pb.UnmuteResponse, error) {
	return &pb.UnmuteResponse{}, f.fact(ctx, req)
}

func (f *fakeServer) GetHomeFeed(context.Context, *pb.GetHomeFeedRequest) (*pb.GetHomeFeedResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return &pb.GetHomeFeedResponse{}, nil
}

// check compares the facts of each partition key with the plan, in order. A fact
// that follows itself is a repeat, which graph commands and deletes may have.
func (f *fakeServer) check(t *testing.T, cfg Config) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	got := make(map[string][]string)
	for _, fact := range f.facts {
		owner, name := partition(fact), key(fact)
		if had := got[owner]; len(had) == 0 || had[len(had)-1] != name {
			got[owner] = append(had, name)
		}
	}
	want := make(map[string][]string)
	p := newPlan(cfg.withDefaults())
	r := run{cfg: cfg.withDefaults(), ids: make([]event.ID, p.posts)}
	for n := range r.ids {
		photo := f.photos[fmt.Sprintf("load/%d/%d", cfg.Seed, n)]
		if photo == nil {
			t.Fatalf("post %d is lost", n)
		}
		r.ids[n], _ = event.ParseID(photo.GetPostId())
	}
	catcher := &catcher{}
	r.clients = Clients{Post: pb.NewPostServiceClient(catcher), Graph: pb.NewGraphServiceClient(catcher), Feed: pb.NewFeedServiceClient(catcher)}
	for _, s := range slices.Concat(p.follows, p.rest) {
		if s.kind == kindRead {
			continue
		}
		_ = r.call(t.Context(), s) // the catcher answers nothing, which a post calls an error
		owner := cfg.Graph.Users[s.key()]
		want[owner] = append(want[owner], key(catcher.last))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands by partition key (-plan +server):\n%s", diff)
	}
}

func (f *fakeServer) accepted() map[string]int64 {
	types := map[string]string{
		"FollowRequest": "UserFollowed", "UnfollowRequest": "UserUnfollowed", "PostPhotoRequest": "PhotoPosted", "DeletePhotoRequest": "PhotoDeleted",
		"BlockRequest": "UserBlocked", "UnblockRequest": "UserUnblocked", "MuteRequest": "UserMuted", "UnmuteRequest": "UserUnmuted",
	}
	got := make(map[string]int64)
	for _, fact := range f.facts {
		got[types[string(fact.ProtoReflect().Descriptor().Name())]]++
	}
	return got
}

// catcher is a connection that keeps the last request and goes nowhere.
type catcher struct{ last proto.Message }

func (c *catcher) Invoke(_ context.Context, _ string, args, _ any, _ ...grpc.CallOption) error {
	c.last = args.(proto.Message)
	return nil
}

func (c *catcher) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

// key names a request: its type and content.
func key(req proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		panic(err)
	}
	return string(req.ProtoReflect().Descriptor().Name()) + fmt.Sprintf("%x", b)
}

// partition returns the user by whom the log is partitioned.
func partition(req proto.Message) string {
	switch r := req.(type) {
	case *pb.FollowRequest:
		return r.GetTargetId()
	case *pb.UnfollowRequest:
		return r.GetTargetId()
	case interface{ GetUserId() string }:
		return r.GetUserId()
	}
	panic(fmt.Sprintf("no key of %T", req))
}
