package feed

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// history is a log of one partition, and a process that consumed it.
type history struct {
	*process

	log []event.Event
}

func (h *history) happen(t testing.TB, facts ...proto.Message) {
	t.Helper()
	for _, fact := range facts {
		e := h.w.event(fact)
		h.log = append(h.log, e)
		if err := h.deliver(t.Context(), e, 1); err != nil {
			t.Fatalf("deliver %T: %v", fact, err)
		}
	}
}

// restore plays what cmd and internal/rebuild do; between runs something between
// the steps.
func restore(ctx context.Context, r *Restore, log []event.Event, between func()) error {
	for _, e := range log {
		if err := r.Fold(e); err != nil {
			return err
		}
	}
	between()
	if err := r.Settle(ctx); err != nil {
		return err
	}
	between()
	if err := r.Take(ctx, log); err != nil {
		return err
	}
	r.Next()
	between()
	return r.Finish(ctx, func() {})
}

func TestRestoreBringsBackWhatRedisLost(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		h := &history{process: w.process(t, smallConfig())}
		h.happen(t, followed("bob", "ann"), followed("bob", "cat"), followed("bob", "dan"), followed("eve", "ann"))
		first, gone, last := posted("ann", w.ids.Next(), w.clock.Now()), posted("cat", w.ids.Next(), w.clock.Now()), posted("cat", w.ids.Next(), w.clock.Now())
		of := posted("dan", w.ids.Next(), w.clock.Now())
		h.happen(t, first, gone, last, of)
		h.happen(t, deleted("cat", gone.GetPhoto().GetPostId()), unfollowed("bob", "dan"), &pb.UserMuted{ActorId: "eve", TargetId: "ann"})
		h.happen(t, &pb.UserSawFeed{UserId: "bob", PostId: first.GetPhoto().GetPostId()})
		want := []string{last.GetPhoto().GetPostId(), first.GetPhoto().GetPostId()}
		h.wantHome(t, "bob", want...)

		for name, lose := range map[string]func(){
			"everything":          func() { _ = w.flush(t.Context()) },
			"nothing":             func() {},
			"a list of an author": func() { w.raw.Del(t.Context(), authorKey("cat"), feedKey("bob")) },
			"the followers":       func() { w.raw.Del(t.Context(), followers.key("ann")) },
			"the followees":       func() { w.raw.Del(t.Context(), following.key("bob")) },
			"a body":              func() { w.raw.Del(t.Context(), "post:{"+want[0]+"}") },
			"a body for another":  func() { w.raw.Set(t.Context(), "post:{"+want[0]+"}", "Pcat,", 0) },
			"a read position":     func() { w.raw.Del(t.Context(), seenKey("bob")) },
			"a push":              func() { w.raw.LRem(t.Context(), feedKey("bob"), 0, want[0]) },
			"a mute":              func() { w.raw.Del(t.Context(), mutes.key("eve")) },
			"an unfollow": func() {
				w.raw.HSet(t.Context(), following.key("bob"), "dan", h.log[2].ID.String())
				w.raw.Del(t.Context(), following.goneKey("bob"))
			},
			"a delete and its mark": func() {
				w.raw.Del(t.Context(), "post:{"+gone.GetPhoto().GetPostId()+"}")
				w.raw.RPush(t.Context(), authorKey("cat"), gone.GetPhoto().GetPostId())
			},
		} {
			lose()
			if err := restore(t.Context(), h.Restore([]string{}, nil), h.log, func() {}); err != nil {
				t.Fatalf("restore after losing %s: %v", name, err)
			}
			h.restart(t, smallConfig())
			h.wantHome(t, "bob", want...)
			h.wantHome(t, "eve")
			h.wantHome(t, "cat", want[0])
			if seen, err := h.store.seen(t.Context(), "bob"); err != nil || seen.String() != want[1] {
				t.Errorf("after losing %s: read position = %v, %v, want %s", name, seen, err, want[1])
			}
			if got, err := h.api.GetPost(t.Context(), &pb.GetPostRequest{UserId: "bob", PostId: want[0]}); err != nil || got.GetPhoto().GetCaption() != "by cat" {
				t.Errorf("after losing %s: post = %v, %v", name, got, err)
			}
			// Late facts of the past change nothing: the ends are remembered again.
			for _, e := range h.log {
				if err := h.deliver(t.Context(), e, 2); err != nil {
					t.Fatal(err)
				}
			}
			h.wantHome(t, "bob", want...)
		}
	})
}

func TestRestoreYieldsToWhatHappensMeanwhile(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]struct {
		fact func(post string) proto.Message
		want func(posts []string) []string
	}{
		"an unfollow": {
			func(string) proto.Message { return unfollowed("bob", "ann") },
			func(posts []string) []string { return posts[:1] },
		},
		"a delete": {
			func(post string) proto.Message { return deleted("ann", post) },
			func(posts []string) []string { return posts[:1] },
		},
		"a follow": {
			func(string) proto.Message { return followed("bob", "dan") },
			func(posts []string) []string { return posts },
		},
	} {
		for step := range 3 {
			onEngines(t, func(t *testing.T, w *world) {
				h := &history{process: w.process(t, smallConfig())}
				h.happen(t, followed("bob", "ann"), followed("bob", "cat"))
				old := posted("ann", w.ids.Next(), w.clock.Now())
				h.happen(t, old, posted("cat", w.ids.Next(), w.clock.Now()))
				before := slices.Clone(h.log)
				newest := h.log[3].Data.(*pb.PhotoPosted).GetPhoto().GetPostId()
				if err := w.flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.clock.Advance(time.Minute)
				at := 0
				err := restore(t.Context(), h.Restore(nil, nil), before, func() {
					if at == step {
						h.happen(t, meanwhile.fact(old.GetPhoto().GetPostId()))
					}
					at++
				})
				if err != nil {
					t.Fatal(err)
				}
				h.wantHome(t, "bob", meanwhile.want([]string{newest, old.GetPhoto().GetPostId()})...)
				if t.Failed() {
					t.Errorf("with %s at step %d", name, step)
				}
			})
		}
	}
}

func TestRestoreOfSomeTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		h := &history{process: w.process(t, smallConfig())}
		h.happen(t, followed("bob", "ann"), followed("eve", "cat"))
		h.happen(t, posted("ann", w.ids.Next(), w.clock.Now()), posted("cat", w.ids.Next(), w.clock.Now()))
		of := func(i int) string { return h.log[i].Data.(*pb.PhotoPosted).GetPhoto().GetPostId() }
		h.wantHome(t, "bob", of(2))
		h.wantHome(t, "eve", of(3))
		if err := w.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := restore(t.Context(), h.Restore([]string{"bob", "ann"}, nil), h.log, func() {}); err != nil {
			t.Fatal(err)
		}
		h.wantHome(t, "bob", of(2))
		h.wantHome(t, "eve")
	})
}

// Rebuild loses keys of any kind and restores from the whole log, while events go
// on being delivered.
func (s *system) Rebuild(*rapid.T) {
	if rapid.IntRange(0, 3).Draw(s.t, "really") > 0 {
		return
	}
	s.scroll = nil
	for range rapid.IntRange(0, 4).Draw(s.t, "losses") {
		user := s.user("loser")
		lost := []string{authorKey(user), feedKey(user), following.key(user), followers.key(user), blocks.key(user), mutes.key(user), following.goneKey(user), followers.goneKey(user)}
		for _, part := range s.keys {
			for _, d := range part.log {
				if posted, ok := d.event.Data.(*pb.PhotoPosted); ok && posted.GetPhoto().GetAuthorId() == user {
					id, err := event.ParseID(posted.GetPhoto().GetPostId())
					s.must(err, "parse")
					lost = append(lost, postKey(id))
				}
			}
		}
		s.w.raw.Del(s.t.Context(), rapid.SampledFrom(lost).Draw(s.t, "lost"))
	}
	p, _ := s.pick()
	r := p.Restore(nil, nil)
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		var log []event.Event
		for _, d := range s.keys[key].log {
			log = append(log, d.event)
		}
		deliver := func() {
			if keys := s.pending(""); len(keys) > 0 && rapid.Bool().Draw(s.t, "meanwhile") {
				p, _ := s.pick()
				s.must(s.deliverNext(p, rapid.SampledFrom(keys).Draw(s.t, "key")), "deliver")
			}
		}
		for _, e := range log {
			s.must(r.Fold(e), "fold")
		}
		deliver()
		s.must(r.Settle(s.t.Context()), "settle")
		deliver()
		s.must(r.Take(s.t.Context(), log), "take")
		r.Next()
	}
	s.must(r.Finish(s.t.Context(), func() {}), "finish")
	s.Settle(nil)
}
