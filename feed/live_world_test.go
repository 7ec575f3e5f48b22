package feed

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// memoryLog is the log: facts in one order.
type memoryLog struct {
	mu    sync.Mutex
	facts []event.Event
	grown chan struct{} // closed and made anew when there are more, or a tail may go on
}

func newMemoryLog() *memoryLog { return &memoryLog{grown: make(chan struct{})} }

func (l *memoryLog) changed() {
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *memoryLog) append(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.facts = append(l.facts, e)
	l.changed()
}

// memoryTail follows a memoryLog as far as it is let.
type memoryTail struct {
	log *memoryLog
	// let is up to where the tail may go; below 0: to the end.
	let  int
	next int
}

func (m *memoryTail) Run(ctx context.Context, fn func(*message.Message) error) error {
	for {
		m.log.mu.Lock()
		grown := m.log.grown
		var e *event.Event
		if m.next < len(m.log.facts) && (m.let < 0 || m.next < m.let) {
			e = &m.log.facts[m.next]
		}
		at := m.next
		m.log.mu.Unlock()
		if e == nil {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		msg, err := event.Encode(*e)
		if err != nil {
			return err
		}
		msg.SetContext(record.WithOrigin(ctx, record.Origin{Topic: event.Topic, Offset: int64(at), Attempt: 1}))
		if err := fn(msg); err != nil {
			return err
		}
		m.log.mu.Lock()
		m.next = at + 1
		m.log.changed()
		m.log.mu.Unlock()
	}
}

// CaughtUp waits for what the tail is let to read.
func (m *memoryTail) CaughtUp(ctx context.Context) error {
	m.log.mu.Lock()
	end := len(m.log.facts)
	if m.let >= 0 {
		end = min(end, m.let)
	}
	m.log.mu.Unlock()
	return m.wait(ctx, end)
}

func (m *memoryTail) wait(ctx context.Context, end int) error {
	for {
		m.log.mu.Lock()
		done, grown := m.next >= end, m.log.grown
		m.log.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// liveNode is a process that serves live feeds.
type liveNode struct {
	*process

	tail *memoryTail
}

// liveNode starts a process on the log. It ends with the test.
func (w *world) liveNode(t testing.TB, log *memoryLog, cfg Config, deps Deps) *liveNode {
	t.Helper()
	n, stop := w.startLiveNode(t, log, cfg, deps, -1)
	t.Cleanup(stop)
	return n
}

// startLiveNode starts a process that may follow the log up to a place.
func (w *world) startLiveNode(t testing.TB, log *memoryLog, cfg Config, deps Deps, let int) (n *liveNode, stop func()) {
	t.Helper()
	n = &liveNode{process: w.process(t, cfg), tail: &memoryTail{log: log, let: let}}
	deps.Log, deps.Redis, deps.Now, deps.Tail = slog.New(slog.DiscardHandler), n.client, w.clock.Now, n.tail
	cfg.RedisTimeout = cmp.Or(cfg.RedisTimeout, testenv.RedisTimeout)
	f, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	n.Feed, n.api = f, f.service()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.RunLive(ctx) }()
	return n, func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("RunLive = %v", err)
			}
		case <-time.After(patience):
			t.Error("RunLive did not end")
		}
	}
}

// happen appends facts of this moment to the log.
func (w *world) happen(log *memoryLog, facts ...proto.Message) {
	for _, fact := range facts {
		log.append(w.event(fact))
	}
}

// memoryStream is a stream to a client that always reads.
type memoryStream struct {
	grpc.ServerStream

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	got   []*pb.WatchFeedResponse
	err   error         // with which the call ended
	grown chan struct{} // closed and made anew when there is more
}

func (s *memoryStream) Context() context.Context { return s.ctx }

func (s *memoryStream) Send(r *pb.WatchFeedResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}

// watch opens a stream; it ends by itself or by stop.
func (n *liveNode) watch(user, cursor string) *memoryStream {
	s := &memoryStream{ended: make(chan struct{}), grown: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(s.ended)
		err := n.api.WatchFeed(&pb.WatchFeedRequest{UserId: user, Cursor: cursor}, s)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
	}()
	return s
}

func (s *memoryStream) stop() []*pb.WatchFeedResponse {
	s.cancel()
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// until waits for a message, or for the end of the stream, and returns all that came.
func (s *memoryStream) until(t testing.TB, is func(*pb.WatchFeedResponse) bool) (got []*pb.WatchFeedResponse, found bool) {
	t.Helper()
	deadline := time.After(patience)
	ended := s.ended
	for looked := 0; ; {
		s.mu.Lock()
		got, grown := s.got, s.grown
		s.mu.Unlock()
		for ; looked < len(got); looked++ {
			if is(got[looked]) {
				return got[:looked+1], true
			}
		}
		if ended == nil {
			return got, false
		}
		select {
		case <-grown:
		case <-ended:
			ended = nil // look once more
		case <-deadline:
			t.Fatalf("no such message within %v: %v", patience, got)
		}
	}
}

func isCaughtUp(r *pb.WatchFeedResponse) bool { return r.GetCaughtUp() }

// live opens a stream and waits until it is live.
func (n *liveNode) live(t testing.TB, user, cursor string) *memoryStream {
	t.Helper()
	s := n.watch(user, cursor)
	t.Cleanup(func() { s.stop() })
	if _, ok := s.until(t, isCaughtUp); !ok {
		t.Fatalf("WatchFeed(%s) = %v", user, s.err)
	}
	return s
}

// line tells a message in a word.
func line(r *pb.WatchFeedResponse) string {
	switch u := r.GetUpdate().(type) {
	case *pb.WatchFeedResponse_Photo:
		return u.Photo.GetPostId()
	case *pb.WatchFeedResponse_RemovedPostId:
		return "removed " + u.RemovedPostId
	case *pb.WatchFeedResponse_SeenPostId:
		return "seen " + u.SeenPostId
	case *pb.WatchFeedResponse_CaughtUp:
		return "caught up"
	}
	return "nothing"
}

func lines(rs []*pb.WatchFeedResponse) []string {
	got := make([]string, len(rs))
	for i, r := range rs {
		got[i] = line(r)
	}
	return got
}
