package post_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rpc"
	"activityfeed/internal/testenv"
	"activityfeed/post"
	pb "activityfeed/proto/activityfeed/v1"
)

// publisher is where the nodes of a test publish; fault says what goes wrong with
// one message: it gets the real publish, and returns what the node is told.
type publisher struct {
	*kafka.Publisher

	fault func(ctx context.Context, publish func() error) error
}

func (p publisher) PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error {
	// A write that lands late does so after the node gave up.
	publish := func() error { return p.Publisher.PublishContext(context.WithoutCancel(ctx), topic, msgs...) }
	if p.fault != nil {
		return p.fault(ctx, publish)
	}
	return publish()
}

// logOf is the log of a test and what the nodes on it share.
type logOf struct {
	brokers []string
	clock   *testenv.Clock
	// fault is set before nodes start; see publisher.
	fault func(ctx context.Context, publish func() error) error
	cfg   post.Config
	// deaf nodes do not follow the log.
	deaf  bool
	nodes int
}

func newLog(t *testing.T) *logOf {
	t.Helper()
	l := &logOf{brokers: testenv.Kafka(t), clock: testenv.NewClock(time.Date(2026, 11, 22, 10, 20, 30, 456e6, time.UTC))}
	admin, err := kafka.NewAdmin(l.brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 4}}); err != nil {
		t.Fatal(err)
	}
	return l
}

// node is one running API node.
type node struct {
	pb.PostServiceClient

	stop func()
}

// start starts a node: the domain behind a real server, on the log.
func (l *logOf) start(t *testing.T) *node {
	t.Helper()
	log := testenv.Logger(t)
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: l.brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := event.NewIDs(l.nodes, l.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	l.nodes++
	p, err := post.New(l.cfg, post.Deps{
		Log:       log,
		Publisher: publisher{pub, l.fault},
		Tail:      kafka.NewTail(kafka.TailConfig{Brokers: l.brokers, Topic: event.Topic}, log),
		IDs:       ids,
		Now:       l.clock.Now,
		Source:    "node-under-test",
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := rpc.New(rpc.Config{Addr: "127.0.0.1:0"}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Register(server.Registrar())

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	runs := []func(context.Context) error{server.Run, p.Run}
	if l.deaf {
		runs = runs[:1]
	}
	for _, run := range runs {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
	<-server.Ready()
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := errors.Join(conn.Close(), pub.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &node{pb.NewPostServiceClient(conn), stop}
}

// events returns what is in the log, in the order of the event ids.
func (l *logOf) events(t *testing.T) []event.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tail := kafka.NewTail(kafka.TailConfig{Brokers: l.brokers, Topic: event.Topic}, testenv.Logger(t))
	var all []event.Event
	done := make(chan error, 1)
	go func() {
		done <- tail.Run(ctx, func(msg *message.Message) error {
			e, err := event.Decode(msg)
			all = append(all, e)
			return err
		})
	}()
	if err := tail.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { return int(a.ID - b.ID) })
	return all
}

// posted returns the photos in the log.
func (l *logOf) posted(t *testing.T) []*pb.Photo {
	t.Helper()
	var photos []*pb.Photo
	for _, e := range l.events(t) {
		if p, ok := e.Data.(*pb.PhotoPosted); ok {
			photos = append(photos, p.GetPhoto())
		}
	}
	return photos
}

// command returns a valid command with edits.
func command(edits ...func(*pb.PostPhotoRequest)) *pb.PostPhotoRequest {
	req := &pb.PostPhotoRequest{
		UserId:   "ann",
		Media:    []*pb.Media{{Url: "https://cdn.example/1.jpg", Width: 640, Height: 480, Blurhash: "LEHV6n", AltText: "a dune"}},
		Caption:  "wind, sand & ☀",
		Mentions: []string{"bob", "ann"},
	}
	for _, edit := range edits {
		edit(req)
	}
	return req
}

func keyed(key string, edits ...func(*pb.PostPhotoRequest)) *pb.PostPhotoRequest {
	req := command(edits...)
	req.IdempotencyKey = key
	return req
}

// mustPost posts and returns the photo.
func mustPost(t *testing.T, n *node, req *pb.PostPhotoRequest) *pb.Photo {
	t.Helper()
	resp, err := n.PostPhoto(t.Context(), req)
	if err != nil {
		t.Fatalf("PostPhoto(%v): %v", req, err)
	}
	return resp.GetPhoto()
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
	return st.Code() == codes.InvalidArgument && slices.Equal(slices.Compact(named), []string{field}) &&
		strings.HasPrefix(st.Message(), field+": ")
}
