package audit

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// fakeLog is a log in memory.
type fakeLog struct {
	ids *event.IDs

	mu       sync.Mutex
	messages []*message.Message
	handled  int
	moved    chan struct{}
	photos   map[string]*pb.Photo
	model    *Model // what a perfect feed service would know
}

func newFakeLog(t *testing.T, facts ...proto.Message) *fakeLog {
	t.Helper()
	ids, err := event.NewIDs(1, func() time.Time { return id(0).Time() })
	if err != nil {
		t.Fatal(err)
	}
	l := &fakeLog{ids: ids, moved: make(chan struct{}), photos: make(map[string]*pb.Photo), model: NewModel()}
	for _, data := range facts {
		l.add(data, "")
	}
	return l
}

func (l *fakeLog) add(data proto.Message, key string) {
	e := event.Event{ID: l.ids.Next(), Time: id(0).Time(), IdempotencyKey: key, Data: data}
	msg, err := event.Encode(e)
	if err != nil {
		panic(err)
	}
	l.accept(e)
	l.raw(msg)
}

// accept makes an event known to the feeds that are served.
func (l *fakeLog) accept(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := e.Data.(*pb.PhotoPosted); ok {
		l.photos[p.GetPhoto().GetPostId()] = p.GetPhoto()
	}
	if err := l.model.Apply(e); err != nil {
		panic(err)
	}
}

// again appends record i once more.
func (l *fakeLog) again(i int) { l.raw(l.messages[i]) }

func (l *fakeLog) raw(msg *message.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, msg)
	l.tell()
}

func (l *fakeLog) tell() {
	close(l.moved)
	l.moved = make(chan struct{})
}

func (l *fakeLog) Run(ctx context.Context, fn func(*message.Message) error) error {
	for next := 0; ; {
		l.mu.Lock()
		messages, moved := l.messages[next:], l.moved
		l.mu.Unlock()
		for _, msg := range messages {
			if err := fn(msg); err != nil {
				return err
			}
			next++
		}
		l.mu.Lock()
		if l.handled != next {
			l.handled = next
			l.tell()
			moved = l.moved
		}
		idle := len(l.messages) == next
		l.mu.Unlock()
		if !idle {
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			l.mu.Lock()
			l.handled = 0 // the next Run begins anew
			l.mu.Unlock()
			return nil
		}
	}
}

func (l *fakeLog) CaughtUp(ctx context.Context) error {
	l.mu.Lock()
	end := len(l.messages)
	l.mu.Unlock()
	for {
		l.mu.Lock()
		handled, moved := l.handled, l.moved
		l.mu.Unlock()
		if handled >= end {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fakeFeed serves the feeds of a fakeLog over the wire, and cheats as it is told.
type fakeFeed struct {
	pb.UnimplementedFeedServiceServer

	log  *fakeLog
	conn *grpc.ClientConn
	t    *testing.T

	// tamper changes a whole feed before its first page is cut.
	tamper func(ctx context.Context, user string, home []*pb.Photo) []*pb.Photo
	// pages answers a request in the feed's place; nil, nil: the feed answers.
	pages func(req *pb.GetHomeFeedRequest) (*pb.GetHomeFeedResponse, error)

	mu    sync.Mutex
	homes map[string][]*pb.Photo // as of the first page
}

func newFakeFeed(t *testing.T, log *fakeLog) *fakeFeed {
	t.Helper()
	f := &fakeFeed{log: log, t: t, homes: make(map[string][]*pb.Photo)}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	pb.RegisterFeedServiceServer(server, f)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	f.conn = conn
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		serving.Wait()
	})
	return f
}

func (f *fakeFeed) deps(drift io.Writer) Deps {
	return Deps{
		Log: testenv.Logger(f.t), Tail: f.log, Feed: pb.NewFeedServiceClient(f.conn), Drift: drift,
		Lag: lagFunc(func(context.Context, string, string) (int64, error) { return 0, nil }),
	}
}

func (f *fakeFeed) GetHomeFeed(ctx context.Context, req *pb.GetHomeFeedRequest) (*pb.GetHomeFeedResponse, error) {
	if f.pages != nil {
		if resp, err := f.pages(req); resp != nil || err != nil {
			return resp, err
		}
	}
	from, _ := strconv.Atoi(req.GetPageToken())
	home := f.home(ctx, req.GetUserId(), from == 0)
	to := min(from+int(req.GetPageSize()), len(home))
	resp := &pb.GetHomeFeedResponse{Photos: home[from:to], HasMore: to < len(home)}
	if resp.GetHasMore() {
		resp.NextPageToken = fmt.Sprint(to)
	}
	return resp, nil
}

func (f *fakeFeed) home(ctx context.Context, user string, fresh bool) []*pb.Photo {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !fresh {
		return f.homes[user]
	}
	var home []*pb.Photo
	f.log.mu.Lock()
	for _, p := range f.log.model.Home(user) {
		home = append(home, proto.CloneOf(f.log.photos[p.ID.String()]))
	}
	f.log.mu.Unlock()
	if f.tamper != nil {
		home = f.tamper(ctx, user, home)
	}
	f.homes[user] = home
	return home
}

func (f *fakeFeed) reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.homes)
}

// forget returns the users whose feeds were read, and begins anew.
func (f *fakeFeed) forget() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	users := slices.Sorted(maps.Keys(f.homes))
	clear(f.homes)
	return users
}

type lagFunc func(ctx context.Context, group, topic string) (int64, error)

func (f lagFunc) Lag(ctx context.Context, group, topic string) (int64, error) {
	return f(ctx, group, topic)
}

// deadTail is a log that fails or hangs.
type deadTail struct{ run, caughtUp error }

func (d deadTail) Run(ctx context.Context, _ func(*message.Message) error) error {
	if d.run == nil {
		<-ctx.Done()
	}
	return d.run
}

func (d deadTail) CaughtUp(ctx context.Context) error {
	if d.caughtUp != nil {
		return d.caughtUp
	}
	<-ctx.Done()
	return ctx.Err()
}

// deadFeed answers every read with a code, and with an empty feed for OK.
type deadFeed struct {
	pb.FeedServiceClient

	code codes.Code
}

func (d deadFeed) GetHomeFeed(context.Context, *pb.GetHomeFeedRequest, ...grpc.CallOption) (*pb.GetHomeFeedResponse, error) {
	return &pb.GetHomeFeedResponse{}, status.Error(d.code, "dead")
}
