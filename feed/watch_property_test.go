package feed

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// liveSystem is a log, the consumer that is somewhere on it, two nodes with streams
// that are elsewhere on it, and clients who come and go.
type liveSystem struct {
	t         *rapid.T
	w         *world
	log       *memoryLog
	consumer  *process
	nodes     []*liveNode
	late      *event.IDs // of a host whose clock is behind
	clients   []*liveClient
	projected int // facts that are in Redis
	posts     map[string]int
	marks     event.ID
}

// liveClient is what a client has got so far, over all its streams.
type liveClient struct {
	user   string
	node   *liveNode
	stream *memoryStream
	cursor string
	end    error // of the last stream
	// begun is the place in the log from which on it must get everything; below 0
	// until its first stream stood.
	begun int
	got   map[string]bool
	// hidden are posts that were deleted, as far as the node knew, before the present
	// stream began.
	hidden map[string]bool
	gone   map[string]bool // removed, as this stream told
}

func (s *liveSystem) happen(fact proto.Message) { s.w.happen(s.log, fact) }

// project lets the consumer go on.
func (s *liveSystem) project(n int) {
	for range n {
		if s.projected == len(s.log.facts) {
			return
		}
		if err := s.consumer.deliver(context.Background(), s.log.facts[s.projected], 1); err != nil {
			s.t.Fatal(err)
		}
		s.projected++
	}
}

// follow lets a node go on and waits until it has.
func (s *liveSystem) follow(n *liveNode, facts int) {
	s.log.mu.Lock()
	n.tail.let = min(n.tail.let+facts, len(s.log.facts))
	end := n.tail.let
	s.log.changed()
	s.log.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.tail.wait(ctx, end); err != nil {
		s.t.Fatal(err)
	}
}

// connect opens a stream where the client is not connected.
func (s *liveSystem) connect(tb testing.TB, c *liveClient, n *liveNode) {
	c.hidden, c.gone = map[string]bool{}, map[string]bool{}
	for _, e := range s.log.facts[:n.tail.let] {
		if d, ok := e.Data.(*pb.PhotoDeleted); ok {
			c.hidden[d.GetPostId()] = true
		}
	}
	stream := n.watch(c.user, c.cursor)
	got, ok := stream.until(tb, isCaughtUp)
	if !ok {
		// Redis is too far behind, or the queue was full before the stream was live.
		if code := status.Code(stream.err); !unavailable(stream.err) && code != codes.ResourceExhausted {
			s.t.Fatalf("WatchFeed(%s) = %v", c.user, stream.err)
		}
		c.stream = stream
		c.take(s, got)
		c.stream = nil
		return
	}
	c.node, c.stream = n, stream
	if c.begun < 0 {
		c.begun = max(n.tail.let, s.projected)
		c.cursor = got[0].GetCursor()
	}
}

// disconnect ends a stream; the client has only the first share of what was sent.
func (s *liveSystem) disconnect(c *liveClient, lost int) {
	got := c.stream.stop()
	if err := c.stream.err; status.Code(err) != codes.ResourceExhausted && !errorsIsCanceled(err) {
		s.t.Fatalf("the stream of %s ended with %v", c.user, err)
	}
	c.take(s, got[:max(0, len(got)-lost)])
	c.end, c.stream, c.node = c.stream.err, nil, nil
}

func errorsIsCanceled(err error) bool { return err == context.Canceled } //nolint:errorlint // that very error

// take is the client getting messages.
func (c *liveClient) take(s *liveSystem, msgs []*pb.WatchFeedResponse) {
	for _, m := range msgs {
		c.cursor = m.GetCursor()
		if id := m.GetRemovedPostId(); id != "" {
			c.gone[id] = true
		}
		id := m.GetPhoto().GetPostId()
		switch {
		case id == "":
			continue
		case c.got[id]:
			s.t.Fatalf("%s got post %s twice", c.user, id)
		case c.hidden[id] || c.gone[id]:
			s.t.Fatalf("%s got post %s after its end", c.user, id)
		}
		c.got[id] = true
	}
}

// barrier waits until the streams have sent everything: a mark is the last news.
func (s *liveSystem) barrier(tb testing.TB) {
	for _, c := range s.clients {
		if c.stream == nil {
			continue
		}
		s.marks = max(s.marks+1, s.w.ids.Next())
		mark := s.marks.String()
		s.happen(&pb.UserSawFeed{UserId: c.user, PostId: mark})
		s.follow(c.node, len(s.log.facts))
		c.stream.until(tb, func(r *pb.WatchFeedResponse) bool { return r.GetSeenPostId() == mark })
	}
}

// check compares what the clients got with the definition, fact by fact.
func (s *liveSystem) check() {
	m := newModel()
	type key struct{ user, post string }
	once, always := map[key]bool{}, map[key]bool{}
	for i, e := range s.log.facts {
		m.apply(e.Data)
		if d, ok := e.Data.(*pb.PhotoPosted); ok {
			s.posts[d.GetPhoto().GetPostId()] = i
			for _, c := range s.clients {
				always[key{c.user, d.GetPhoto().GetPostId()}] = true
			}
		}
		for _, c := range s.clients {
			home := m.home(c.user)
			for post := range s.posts {
				in := slices.Contains(home, post)
				once[key{c.user, post}] = once[key{c.user, post}] || in
				always[key{c.user, post}] = always[key{c.user, post}] && in
			}
		}
	}
	for _, c := range s.clients {
		for post, at := range s.posts {
			k := key{c.user, post}
			if c.begun >= 0 && at >= c.begun && always[k] && !c.got[post] {
				s.t.Fatalf("%s watched from fact %d on and did not get post %s, fact %d", c.user, c.begun, post, at)
			}
			if c.got[post] && !once[k] {
				s.t.Fatalf("%s got post %s, which never stood in the feed", c.user, post)
			}
		}
	}
}

// delete deletes one of the posts, perhaps.
func (s *liveSystem) delete() {
	for _, e := range s.log.facts {
		if d, ok := e.Data.(*pb.PhotoPosted); ok && rapid.IntRange(0, 3).Draw(s.t, "this") == 0 {
			s.happen(deleted(d.GetPhoto().GetAuthorId(), d.GetPhoto().GetPostId()))
			return
		}
	}
}

func (s *liveSystem) edge(a, b string) {
	if a == b {
		return
	}
	s.happen(rapid.SampledFrom([]proto.Message{
		followed(a, b), followed(a, b), followed(a, b), unfollowed(a, b),
		&pb.UserBlocked{ActorId: a, TargetId: b}, &pb.UserUnblocked{ActorId: a, TargetId: b},
		&pb.UserMuted{ActorId: a, TargetId: b}, &pb.UserUnmuted{ActorId: a, TargetId: b},
	}).Draw(s.t, "fact"))
}

// What a client gets over all its streams, on whatever nodes, cut off at any moment, is
// what came into its feed: nothing left out, nothing twice, nothing else.
func TestPropertyStreamsEqualTheModel(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	users := []string{"ann", "bob", "cid"}
	rapid.Check(t, func(rt *rapid.T) {
		w.raw.FlushAll(context.Background())
		s := &liveSystem{t: rt, w: w, log: newMemoryLog(), consumer: w.process(t, smallConfig()), posts: map[string]int{}}
		cfg := smallConfig()
		cfg.WatchQueue, cfg.WatchStart = rapid.SampledFrom([]int{3, 100}).Draw(rt, "queue"), 2*time.Second
		end := make([]func(), 0, 2)
		for range 2 {
			n, stop := w.startLiveNode(t, s.log, cfg, Deps{}, 0)
			s.nodes, end = append(s.nodes, n), append(end, stop)
		}
		defer func() {
			for _, stop := range end {
				stop()
			}
		}()
		var err error
		if s.late, err = event.NewIDs(2, func() time.Time { return w.clock.Now().Add(-20 * time.Second) }); err != nil {
			rt.Fatal(err)
		}
		for _, user := range append(users, "ann") {
			s.clients = append(s.clients, &liveClient{user: user, begun: -1, got: map[string]bool{}})
		}
		defer func() {
			for _, c := range s.clients {
				if c.stream != nil {
					c.stream.stop()
				}
			}
		}()
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			a, b := rapid.SampledFrom(users).Draw(rt, "a"), rapid.SampledFrom(users).Draw(rt, "b")
			c := rapid.SampledFrom(s.clients).Draw(rt, "client")
			n := rapid.SampledFrom(s.nodes).Draw(rt, "node")
			switch rapid.SampledFrom([]string{"post", "post", "post", "late", "delete", "edge", "edge", "project", "follow", "follow", "watch", "watch", "leave", "wait"}).Draw(rt, "step") {
			case "post":
				s.happen(posted(a, w.ids.Next(), w.clock.Now()))
			case "late":
				s.happen(posted(a, s.late.Next(), w.clock.Now()))
			case "delete":
				s.delete()
			case "edge":
				s.edge(a, b)
			case "project":
				s.project(rapid.IntRange(1, 8).Draw(rt, "facts"))
			case "follow":
				s.follow(n, rapid.IntRange(1, 8).Draw(rt, "facts"))
			case "watch":
				if c.stream == nil {
					s.connect(t, c, n)
				}
			case "leave":
				if c.stream != nil {
					s.disconnect(c, rapid.IntRange(0, 3).Draw(rt, "lost"))
				}
			case "wait":
				w.clock.Advance(rapid.SampledFrom([]time.Duration{time.Millisecond, 3 * time.Second}).Draw(rt, "time"))
			}
		}
		// At rest: everything is everywhere, and who is away comes back.
		s.project(len(s.log.facts))
		for _, n := range s.nodes {
			s.follow(n, len(s.log.facts))
		}
		s.barrier(t)
		for _, c := range s.clients {
			whole := c.stream != nil
			if whole {
				s.disconnect(c, 0)
				whole = errorsIsCanceled(c.end)
			}
			// Who was not cut off has everything as it is.
			if c.begun >= 0 && !whole {
				s.connect(t, c, s.nodes[0])
				for tries := 0; c.stream == nil; tries++ {
					if tries == 30 {
						rt.Fatal(fmt.Sprintf("%s cannot come back", c.user))
					}
					s.connect(t, c, s.nodes[tries%2])
				}
			}
		}
		for _, c := range s.clients {
			if c.stream != nil {
				s.disconnect(c, 0)
			}
		}
		s.check()
	})
}
