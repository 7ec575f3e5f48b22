package feed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// markLog keeps the marks that were written; the log, as far as marks go.
type markLog struct {
	mu    sync.Mutex
	facts []*pb.UserSawFeed
	err   error
}

func (m *markLog) SawFeed(_ context.Context, user string, upTo event.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.facts = append(m.facts, &pb.UserSawFeed{UserId: user, PostId: upTo.String()})
	}
	return m.err
}

func (p *process) takingMarks() *markLog {
	log := &markLog{}
	p.api.marks = log
	return log
}

func (p *process) mark(t testing.TB, user, post string) *pb.Unseen {
	t.Helper()
	r, err := p.api.MarkSeen(t.Context(), &pb.MarkSeenRequest{UserId: user, PostId: post})
	if err != nil {
		t.Fatalf("MarkSeen(%s, %s): %v", user, post, err)
	}
	return r.GetUnseen()
}

// wantUnseen asks in both ways.
func (p *process) wantUnseen(t testing.TB, user string, want *pb.Unseen) {
	t.Helper()
	count, err := p.api.GetUnseenCount(t.Context(), &pb.GetUnseenCountRequest{UserId: user})
	if err != nil {
		t.Fatalf("GetUnseenCount(%s): %v", user, err)
	}
	if diff := cmp.Diff(want, count.GetUnseen(), protocmp.Transform()); diff != "" {
		t.Errorf("unseen of %s (-want +got):\n%s", user, diff)
	}
	home, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: user, PageSize: 1, WithUnseen: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, home.GetUnseen(), protocmp.Transform()); diff != "" {
		t.Errorf("unseen with home(%s) (-want +got):\n%s", user, diff)
	}
}

func TestUnseen(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		log := p.takingMarks()
		p.apply(t, followed("bob", "ann"), followed("bob", "cid"), followed("bob", "dan"), followed("bob", "eve"))
		p.wantUnseen(t, "bob", &pb.Unseen{})

		first := p.post(t, "ann")
		p.post(t, "bob") // one's own is no news
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 1})
		second := p.post(t, "cid")
		if diff := cmp.Diff(&pb.Unseen{Count: 1, SeenPostId: first}, p.mark(t, "bob", first), protocmp.Transform()); diff != "" {
			t.Errorf("MarkSeen (-want +got):\n%s", diff)
		}
		third := p.post(t, "dan")
		p.post(t, "eve")
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 3, SeenPostId: first})

		// Each of these is right at the next read.
		p.apply(t, deleted("cid", second))
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 2, SeenPostId: first})
		p.apply(t, unfollowed("bob", "dan"))
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 1, SeenPostId: first})
		p.apply(t, &pb.UserMuted{ActorId: "bob", TargetId: "eve"})
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 0, SeenPostId: first})
		p.apply(t, &pb.UserUnmuted{ActorId: "bob", TargetId: "eve"}, &pb.UserBlocked{ActorId: "eve", TargetId: "bob"})
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 0, SeenPostId: first})
		p.apply(t, &pb.UserUnblocked{ActorId: "eve", TargetId: "bob"}, followed("bob", "dan"))
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 2, SeenPostId: first})

		// A mark of a post that is gone is a place in time all the same.
		p.mark(t, "bob", third)
		p.wantUnseen(t, "bob", &pb.Unseen{Count: 1, SeenPostId: third})
		want := []*pb.UserSawFeed{{UserId: "bob", PostId: first}, {UserId: "bob", PostId: third}}
		if diff := cmp.Diff(want, log.facts, protocmp.Transform()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// A count looks at the bodies that a process has in memory, and is right all the same
// after deletes and unfollows that another process took.
func TestUnseenIsCountedFromMemory(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		writer, reader := w.process(t, smallConfig()), w.process(t, smallConfig())
		writer.apply(t, followed("bob", "ann"), followed("bob", "cid"))
		posts := []string{writer.post(t, "ann"), writer.post(t, "ann"), writer.post(t, "cid")}
		reader.wantHome(t, "bob", posts[2], posts[1], posts[0])
		writer.apply(t, deleted("ann", posts[1]))
		reader.wantUnseen(t, "bob", &pb.Unseen{Count: 2})
		writer.apply(t, unfollowed("bob", "cid"))
		reader.wantUnseen(t, "bob", &pb.Unseen{Count: 1})

		// Without its body in Redis the post is counted by those who remember it.
		if err := reader.client.Del(t.Context(), "post:{"+posts[0]+"}").Err(); err != nil {
			t.Fatal(err)
		}
		reader.wantUnseen(t, "bob", &pb.Unseen{Count: 1})
		w.process(t, smallConfig()).wantUnseen(t, "bob", &pb.Unseen{})
	})
}

func TestPositionMovesOnlyForwardOnEveryDevice(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		phone, laptop := w.process(t, smallConfig()), w.process(t, smallConfig())
		log := phone.takingMarks()
		laptop.api.marks = log
		phone.apply(t, followed("bob", "ann"))
		posts := []string{phone.post(t, "ann"), phone.post(t, "ann"), phone.post(t, "ann")}

		phone.mark(t, "bob", posts[1])
		laptop.wantUnseen(t, "bob", &pb.Unseen{Count: 1, SeenPostId: posts[1]})
		// Marks that move nothing are answered with what is, and not written.
		for _, post := range []string{posts[0], posts[1]} {
			if diff := cmp.Diff(&pb.Unseen{Count: 1, SeenPostId: posts[1]}, laptop.mark(t, "bob", post), protocmp.Transform()); diff != "" {
				t.Errorf("MarkSeen (-want +got):\n%s", diff)
			}
		}
		if len(log.facts) != 1 {
			t.Errorf("log = %v, want one fact", log.facts)
		}
		// Facts that come late, or again, move nothing back.
		laptop.apply(t, &pb.UserSawFeed{UserId: "bob", PostId: posts[2]}, &pb.UserSawFeed{UserId: "bob", PostId: posts[0]}, log.facts[0])
		phone.wantUnseen(t, "bob", &pb.Unseen{SeenPostId: posts[2]})

		// The log alone makes it anew.
		if err := w.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		phone.restart(t, smallConfig())
		phone.apply(t, &pb.UserSawFeed{UserId: "bob", PostId: posts[0]}, log.facts[0])
		phone.wantUnseen(t, "bob", &pb.Unseen{SeenPostId: posts[1]})
	})
}

func TestUnseenIsBounded(t *testing.T) {
	t.Parallel()
	p := newMiniWorld(t).process(t, Config{Cap: 400})
	calls := 0
	p.apply(t, followed("bob", "ann"))
	ids := make([]string, 0, 700)
	for len(ids) < mostUnseen {
		ids = append(ids, p.post(t, "ann"))
	}
	p.wantUnseen(t, "bob", &pb.Unseen{Count: mostUnseen})
	ids = append(ids, p.post(t, "ann"))
	p.wantUnseen(t, "bob", &pb.Unseen{Count: mostUnseen, More: true})
	// Behind hundreds of posts that were deleted, the count does not look for more.
	for len(ids) < cap(ids) {
		p.w.clock.Advance(2 * time.Second) // so that the list is sure of its order
		ids = append(ids, p.post(t, "ann"))
	}
	for _, id := range ids[100:] {
		if _, err := p.store.remove(t.Context(), "ann", mustID(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.w.raw.Del(t.Context(), feedKey("bob")).Err(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		p.w.raw.LPush(t.Context(), feedKey("bob"), id)
	}
	p.tap.each = func() { calls++ }
	got, err := p.api.GetUnseenCount(t.Context(), &pb.GetUnseenCountRequest{UserId: "bob"})
	p.tap.each = nil
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&pb.Unseen{More: true}, got.GetUnseen(), protocmp.Transform()); diff != "" {
		t.Errorf("unseen (-want +got):\n%s", diff)
	}
	if calls > 20 {
		t.Errorf("a count of what is behind deleted posts took %d round trips", calls)
	}
}

func mustID(t testing.TB, s string) event.ID {
	t.Helper()
	id, err := event.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMarkSeenRefuses(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	at := func(d time.Duration) string { return event.FirstID(w.clock.Now().Add(d)).String() }
	for _, tt := range []struct {
		name  string
		post  string
		marks marks
		kind  fault.Kind
		field string
	}{
		{"no id", "7", &markLog{}, fault.InvalidArgument, "post_id"},
		{"19 digits and no id", "9999999999999999999", &markLog{}, fault.InvalidArgument, "post_id"},
		{"the end of time", "9223372036854775807", &markLog{}, fault.InvalidArgument, "post_id"},
		{"two minutes ahead", at(2 * time.Minute), &markLog{}, fault.InvalidArgument, "post_id"},
		{"no write side", at(0), nil, fault.Unavailable, ""},
		{"log down", at(0), &markLog{err: fault.Outage("the log did not accept the mark", errors.New("down"))}, fault.Unavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := w.process(t, smallConfig())
			p.api.marks = tt.marks
			_, err := p.api.MarkSeen(t.Context(), &pb.MarkSeenRequest{UserId: "bob", PostId: tt.post})
			if f := fault.Of(err); f == nil || f.Kind != tt.kind || f.Field != tt.field {
				t.Errorf("MarkSeen = %v, want kind %d on %q", err, tt.kind, tt.field)
			} else if tt.field != "" && strings.Contains(f.Message, tt.field) {
				t.Errorf("MarkSeen = %q, which names the field a second time", f.Message)
			}
			p.wantUnseen(t, "bob", &pb.Unseen{})
		})
	}
}

// However facts and marks follow each other, the count is that of the definition.
func TestPropertyUnseenEqualsTheModel(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, Config{Cap: 6, Slack: 2})
	rapid.Check(t, func(rt *rapid.T) {
		_ = w.flush(context.Background())
		p.restart(t, Config{Cap: 6, Slack: 2})
		log := p.takingMarks()
		m, seen, posts := newModel(), map[string]string{}, []*pb.Photo{}
		apply := func(fact proto.Message) {
			m.apply(fact)
			if err := p.deliver(rt.Context(), w.event(fact), 1); err != nil {
				rt.Fatal(err)
			}
		}
		users := []string{"ann", "bob", "cid"}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			a, b := rapid.SampledFrom(users).Draw(rt, "a"), rapid.SampledFrom(users).Draw(rt, "b")
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0, 1, 2:
				w.clock.Advance(time.Second)
				fact := posted(a, w.ids.Next(), w.clock.Now())
				posts = append(posts, fact.GetPhoto())
				apply(fact)
			case 3:
				if len(posts) > 0 {
					gone := rapid.SampledFrom(posts).Draw(rt, "gone")
					apply(deleted(gone.GetAuthorId(), gone.GetPostId()))
				}
			case 4, 5:
				w.clock.Advance(3 * time.Second) // of two facts within 2 s the order of the log counts
				if a != b {
					apply(rapid.SampledFrom([]proto.Message{
						followed(a, b), followed(a, b), unfollowed(a, b), &pb.UserBlocked{ActorId: a, TargetId: b},
						&pb.UserUnblocked{ActorId: a, TargetId: b}, &pb.UserMuted{ActorId: a, TargetId: b}, &pb.UserUnmuted{ActorId: a, TargetId: b},
					}).Draw(rt, "edge"))
				}
			case 6:
				if len(posts) > 0 {
					id := rapid.SampledFrom(posts).Draw(rt, "mark").GetPostId()
					if _, err := p.api.MarkSeen(rt.Context(), &pb.MarkSeenRequest{UserId: a, PostId: id}); err != nil {
						rt.Fatal(err)
					}
					seen[a] = max(seen[a], id)
				}
			case 7:
				if len(log.facts) > 0 { // the consumer comes by, in any order
					apply(rapid.SampledFrom(log.facts).Draw(rt, "fact"))
				}
			}
			want := &pb.Unseen{SeenPostId: seen[a]}
			for _, id := range m.home(a) {
				if own := m.posts[id] == a; !own && id > seen[a] {
					want.Count++
				}
			}
			got, err := p.api.GetUnseenCount(rt.Context(), &pb.GetUnseenCountRequest{UserId: a})
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(want, got.GetUnseen(), protocmp.Transform()); diff != "" {
				rt.Fatalf("unseen of %s (-want +got):\n%s\nhome %v", a, diff, slices.Collect(slices.Values(m.home(a))))
			}
		}
	})
}
