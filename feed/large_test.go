package feed

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// hybridConfig makes an author of three followers large, until one is left.
func hybridConfig() Config {
	cfg := smallConfig()
	cfg.LargeAuthor, cfg.SmallAuthor = 2, 2
	return cfg
}

func (w *world) state(t testing.TB, author string) string {
	t.Helper()
	generation, err := w.raw.HGet(t.Context(), followers.key(author), generationField).Result()
	if err != nil {
		t.Fatal(err)
	}
	return stateOf(generation)
}

func TestLargeAuthorsAreMergedAtRead(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, hybridConfig())
		p.apply(t, followed("bob", "ann"), followed("bob", "eve"), followed("cat", "ann"))
		var posts []string
		for _, tt := range []struct {
			name  string
			facts []proto.Message
			// pushed is whether ann's next post is; bob and cat is whether they see hers.
			pushed, bob, cat bool
		}{
			{"two followers", nil, true, true, true},
			{"three are above the bound", []proto.Message{followed("dan", "ann")}, false, true, true},
			{"bob mutes her", []proto.Message{&pb.UserMuted{ActorId: "bob", TargetId: "ann"}}, false, false, true},
			{"and unmutes her", []proto.Message{&pb.UserUnmuted{ActorId: "bob", TargetId: "ann"}}, false, true, true},
			{"she blocks cat", []proto.Message{&pb.UserBlocked{ActorId: "ann", TargetId: "cat"}}, false, true, false},
			{"and unblocks cat", []proto.Message{&pb.UserUnblocked{ActorId: "ann", TargetId: "cat"}}, false, true, true},
			{"two are within the hysteresis", []proto.Message{unfollowed("dan", "ann")}, false, true, true},
			{"one is below", []proto.Message{unfollowed("cat", "ann")}, true, true, false},
			{"two again are no reason", []proto.Message{followed("cat", "ann")}, true, true, true},
			{"three are", []proto.Message{followed("dan", "ann")}, false, true, true},
		} {
			t.Log(tt.name)
			w.clock.Advance(3 * time.Minute)
			p.apply(t, tt.facts...)
			p.wantHomes(t)
			posts = append(posts, p.post(t, "eve"), p.post(t, "ann"))
			eve, ann := posts[len(posts)-2], posts[len(posts)-1]
			// What a warm list holds.
			list := w.list(t, "bob")
			if !slices.Contains(list, eve) {
				t.Errorf("%s: list = %v lacks eve's post %s", tt.name, list, eve)
			}
			if got := slices.Contains(list, ann); got != tt.pushed {
				t.Errorf("%s: ann's post is in the list: %v, want %v", tt.name, got, tt.pushed)
			}
			if !slices.Contains(w.list(t, "ann"), ann) {
				t.Errorf("%s: ann's post is not in her own list", tt.name)
			}
			// What people see, warm and cold.
			var alone, all []string
			for i, id := range newestFirst(posts...) {
				all = append(all, id)
				if i%2 == 1 {
					alone = append(alone, id)
				}
			}
			for range 2 {
				if tt.bob {
					p.wantHome(t, "bob", all...)
				} else {
					p.wantHome(t, "bob", alone...)
				}
				if got, err := p.home(t.Context(), "cat", 3, true); err != nil || slices.Contains(got, ann) != tt.cat {
					t.Errorf("%s: home(cat) = %v, %v; shows ann's post %v, want %v", tt.name, got, err, ann, tt.cat)
				}
				w.raw.Del(t.Context(), feedKey("bob"))
				w.raw.Del(t.Context(), feedKey("cat"))
			}
		}
		if seen := p.store.metrics.large.seen; len(seen) != 1 || !seen["ann"] {
			t.Errorf("large authors seen: %v, want ann alone", seen)
		}
		if testenv.Value(t, p.store.metrics.mergedReads) == 0 {
			t.Error("no read was counted as merged")
		}
	})
}

// wantFriends checks that the followers of ann, cold and warm, see these posts.
func (w *world) wantFriends(t *testing.T, p *process, want []string, friends ...string) {
	t.Helper()
	for _, friend := range friends {
		p.wantHome(t, friend, newestFirst(want...)...)
		w.raw.Del(t.Context(), feedKey(friend))
		p.wantHome(t, friend, newestFirst(want...)...)
	}
}

// TestATurnThatFailsIsMadeGood lets each call of a turn fail, before and after Redis
// has done it, and something happen to a reader before each.
func TestATurnThatFailsIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, turn := range []struct {
		name  string
		first []proto.Message // after these, ann's first post
		then  []proto.Message // after these, the one that turns her
		state string
		calls int
	}{
		{"to merging", nil, []proto.Message{followed("dan", "ann")}, large, 6},
		{
			"to pushing",
			[]proto.Message{followed("dan", "ann")},
			[]proto.Message{unfollowed("dan", "ann"), unfollowed("cat", "ann")},
			pushed, 4,
		},
	} {
		for call := 1; call <= turn.calls; call++ {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/call %d fails/late %v", turn.name, call, late), func(t *testing.T) {
					t.Parallel()
					w, here, there, want := upTo(t, turn.first, turn.then)

					e := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
					here.tap.arm(0, nil, call, late)
					if err := here.deliver(t.Context(), e, 1); err == nil {
						t.Fatalf("the post took fewer than %d calls", call)
					}
					here.tap.disarm()
					want = append(want, postID(e))
					if err := there.deliver(t.Context(), e, 2); err != nil {
						t.Fatal(err)
					}
					if got := w.state(t, "ann"); got != turn.state {
						t.Errorf("state %q, want %q", got, turn.state)
					}
					w.wantFriends(t, there, want, "bob")
					want = append(want, there.post(t, "ann"))
					w.wantFriends(t, there, want, "bob")
				})
			}
			t.Run(fmt.Sprintf("%s/a reader before call %d", turn.name, call), func(t *testing.T) {
				t.Parallel()
				for _, between := range []struct {
					name string
					do   func(t *testing.T, w *world, p *process)
				}{
					{"bob's feed is built", func(t *testing.T, w *world, p *process) {
						w.raw.Del(t.Context(), feedKey("bob"))
						p.wantHomes(t)
					}},
					{"bob mutes and unmutes", func(t *testing.T, w *world, p *process) {
						p.apply(t, &pb.UserMuted{ActorId: "bob", TargetId: "ann"})
						w.clock.Advance(5 * time.Second)
						p.wantHomes(t)
						p.apply(t, &pb.UserUnmuted{ActorId: "bob", TargetId: "ann"})
						p.wantHomes(t)
					}},
					{"eve follows, out of ann's lane", func(t *testing.T, w *world, p *process) {
						p.apply(t, followed("eve", "ann"))
						if _, err := p.home(t.Context(), "eve", 5, false); err != nil {
							t.Fatal(err)
						}
					}},
				} {
					w, here, there, want := upTo(t, turn.first, turn.then)

					happened := false
					here.tap.arm(call, func() { happened = true; between.do(t, w, there) }, 0, false)
					want = append(want, here.post(t, "ann"))
					if here.tap.disarm(); !happened {
						t.Fatalf("the post took fewer than %d calls", call)
					}
					friends := []string{"bob"}
					if between.name[:3] == "eve" {
						friends = append(friends, "eve")
					}
					// The lists that were built during the turn stay for a post: had one no
					// mark, it would lack that.
					for range 2 {
						for _, friend := range friends {
							there.wantHome(t, friend, newestFirst(want...)...)
						}
						want = append(want, here.post(t, "ann"))
					}
					w.wantFriends(t, there, want, friends...)
					// The followers have changed under the turn: the next post ends it.
					for range 2 {
						want = append(want, here.post(t, "ann"))
						t.Log(between.name)
						w.wantFriends(t, there, want, friends...)
					}
				}
			})
		}
	}
}

// upTo is the world in which ann is followed by bob and cat, and has posted once after
// the first facts and not yet after the others; want is her posts.
func upTo(t *testing.T, first, then []proto.Message) (w *world, here, there *process, want []string) {
	t.Helper()
	w = newMiniWorld(t)
	here, there = w.process(t, hybridConfig()), w.process(t, hybridConfig())
	here.apply(t, followed("bob", "ann"), followed("cat", "ann"))
	here.apply(t, first...)
	here.wantHomes(t)
	want = []string{here.post(t, "ann")}
	w.clock.Advance(5 * time.Second)
	here.apply(t, then...)
	here.wantHomes(t)
	return w, here, there, want
}

// TestATurnThatHungEndsNothing lets a process hang before each call of a turn while
// another one goes on, to merging and back, and a follower comes who was not marked.
func TestATurnThatHungEndsNothing(t *testing.T) {
	t.Parallel()
	for call := 2; call <= 5; call++ {
		onEngines(t, func(t *testing.T, w *world) {
			here, there := w.process(t, hybridConfig()), w.process(t, hybridConfig())
			here.apply(t, followed("bob", "ann"), followed("cat", "ann"), followed("dan", "ann"))
			here.wantHomes(t)
			there.post(t, "eve") // the scripts are known, so calls can be counted
			e := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
			want := []string{postID(e)}
			here.tap.arm(call, func() {
				if err := there.deliver(t.Context(), e, 1); err != nil {
					t.Error(err)
				}
				w.clock.Advance(5 * time.Second)
				there.apply(t, unfollowed("cat", "ann"), unfollowed("dan", "ann"))
				want = append(want, there.post(t, "ann")) // pushed again
				there.apply(t, followed("gus", "ann"))
				there.wantHome(t, "gus", newestFirst(want...)...)
			}, 0, false)
			if err := here.deliver(t.Context(), e, 1); err != nil {
				t.Fatal(err)
			}
			if got := w.state(t, "ann"); got != pushed {
				t.Errorf("call %d: state %q, want pushed: two follow", call, got)
			}
			want = append(want, there.post(t, "ann"))
			if list := w.list(t, "gus"); list[0] != want[len(want)-1] {
				t.Errorf("call %d: list of gus = %v lacks the last post", call, list)
			}
			there.wantHome(t, "gus", newestFirst(want...)...)
			there.wantHome(t, "bob", newestFirst(want...)...)
		})
	}
}

func TestAFeedWithNeedlessMarksIsBuiltAnew(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	cfg := hybridConfig()
	cfg.ColdAfter = 10 * time.Hour
	p := w.process(t, cfg)
	p.apply(t, followed("bob", "ann"), followed("cat", "ann"), followed("dan", "ann"))
	p.wantHomes(t)
	want := []string{p.post(t, "ann")}
	w.clock.Advance(time.Minute)
	p.apply(t, unfollowed("cat", "ann"), unfollowed("dan", "ann"))
	want = append(want, p.post(t, "ann"))
	marks := func() []string { return w.raw.SMembers(t.Context(), pulledKey("bob")).Val() }
	p.wantHome(t, "bob", newestFirst(want...)...)
	if got := marks(); !slices.Equal(got, []string{"ann"}) {
		t.Fatalf("marks of bob's list = %v, want ann: it lacks a post of hers", got)
	}
	w.clock.Advance(2 * time.Hour) // a tenth of the time to live
	p.wantHome(t, "bob", newestFirst(want...)...)
	if got := marks(); len(got) != 0 {
		t.Errorf("marks of bob's list = %v, want none: ann's posts are pushed", got)
	}
	if got, want := w.list(t, "bob"), append(newestFirst(want...), sentinel); !slices.Equal(got, want) {
		t.Errorf("list = %v, want %v", got, want)
	}
}

func TestLargeAuthorsOfAScrollGoOnPastTheList(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, hybridConfig())
		for _, star := range []string{"ann", "eve", "fay"} {
			p.apply(t, followed("bob", star), followed("cat", star), followed("dan", star))
		}
		p.apply(t, followed("bob", "gus"))
		p.wantHome(t, "bob")
		var want []string
		for i := range 60 { // six times the list, and few of them pushed
			author := []string{"ann", "eve", "gus", "ann", "fay"}[i%5]
			if i%20 > 14 {
				author = "ann" // a flood of one
			}
			want = append(want, p.post(t, author))
			w.clock.Advance(40 * time.Second)
		}
		p.wantHome(t, "bob", newestFirst(want...)...)
		gone := map[string]bool{}
		for i, id := range want {
			if i%4 == 0 {
				gone[id] = true
				for _, author := range []string{"ann", "eve", "fay", "gus"} {
					p.apply(t, deleted(author, id))
				}
			}
		}
		want = slices.DeleteFunc(want, func(id string) bool { return gone[id] })
		p.wantHome(t, "bob", newestFirst(want...)...)
	})
}

// BenchmarkHomeWithLargeAuthors reads first pages of a warm feed whose owner follows
// so many large authors, with 50 posts each, and 100 others.
func BenchmarkHomeWithLargeAuthors(b *testing.B) {
	for _, stars := range []int{0, 1, 10, 50, 500} {
		b.Run(fmt.Sprint(stars), func(b *testing.B) {
			w := newWorld(b, single(testenv.Redis(b)))
			p := w.process(b, Config{})
			pipe := w.raw.Pipeline()
			ctx := b.Context()
			start := w.clock.Now()
			for i := range stars + 100 {
				author := fmt.Sprintf("author%04d", i)
				pipe.HSet(ctx, following.key("bob"), author, w.ids.Next().String())
				pipe.HSet(ctx, followers.key(author), "bob", w.ids.Next().String(), generationField, "A")
				if i < stars {
					pipe.HSet(ctx, followers.key(author), generationField, large+"A")
				}
				for j := range 50 {
					at := start.Add(time.Duration(i+j*(stars+100)) * time.Second)
					photo := posted(author, event.FirstID(at), at).GetPhoto()
					value, err := encodePost(photo)
					if err != nil {
						b.Fatal(err)
					}
					pipe.Set(ctx, postKey(event.FirstID(at)), value, 0)
					pipe.LPush(ctx, authorKey(author), photo.GetPostId())
				}
			}
			if _, err := pipe.Exec(ctx); err != nil {
				b.Fatal(err)
			}
			w.clock.Advance(365 * 24 * time.Hour)
			read := func() {
				r, err := p.api.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: "bob"})
				if err != nil || len(r.GetPhotos()) != usualPage {
					b.Fatalf("GetHomeFeed = %d posts, %v", len(r.GetPhotos()), err)
				}
			}
			read()
			for b.Loop() {
				read()
			}
		})
	}
}
