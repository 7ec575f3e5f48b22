package feed

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestFollowAndUnfollowShowAtTheNextRead(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		early := p.post(t, "ann")
		p.wantHome(t, "bob")
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob", early)
		w.clock.Advance(10 * time.Second)
		p.apply(t, unfollowed("bob", "ann"))
		p.wantHome(t, "bob")
		p.post(t, "ann")
		p.wantHome(t, "bob")
	})
}

func TestTheNewerFactOfAnEdgeCounts(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		follow := w.event(followed("bob", "ann"))
		w.clock.Advance(time.Minute)
		unfollow := w.event(unfollowed("bob", "ann"))
		w.clock.Advance(time.Minute)
		again := w.event(followed("bob", "ann"))
		post := p.post(t, "ann")
		for _, tt := range []struct {
			name   string
			events []event.Event
			follow bool
		}{
			{"in order", []event.Event{follow, unfollow}, false},
			{"the follow comes again, late", []event.Event{follow}, false},
			{"the next follow", []event.Event{again}, true},
			{"both come again", []event.Event{unfollow, follow}, true},
		} {
			for _, e := range tt.events {
				if err := p.deliver(t.Context(), e, 1); err != nil {
					t.Fatal(err)
				}
			}
			var want []string
			if tt.follow {
				want = []string{post}
			}
			t.Log(tt.name)
			p.wantHome(t, "bob", want...)
			ids, _, err := p.Followers(t.Context(), "ann", 10, "")
			if err != nil || (len(ids) == 1) != tt.follow {
				t.Errorf("%s: followers = %v, %v, want following %v", tt.name, ids, err, tt.follow)
			}
		}
	})
}

func TestClocksOfTwoHostsMayDiffer(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		// The second fact of the log has the older id, by less than the skew.
		second := w.event(unfollowed("bob", "ann"))
		w.clock.Advance(clockSkew - time.Millisecond)
		first := w.event(followed("bob", "ann"))
		for _, e := range []event.Event{first, second} {
			if err := p.deliver(t.Context(), e, 1); err != nil {
				t.Fatal(err)
			}
		}
		if ids, _, err := p.Followers(t.Context(), "ann", 10, ""); err != nil || len(ids) != 0 {
			t.Errorf("followers = %v, %v, want none: the log ends with an unfollow", ids, err)
		}
	})
}

func TestBlocksAndMutes(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"), followed("ann", "bob"), followed("cat", "ann"))
		p.wantHomes(t)
		ann, bob := p.post(t, "ann"), p.post(t, "bob")
		both := []string{bob, ann}
		type homes struct{ ann, bob, cat []string }
		for _, tt := range []struct {
			name string
			fact proto.Message
			want homes
			// bobReads is whether bob may read ann's own page and posts.
			bobReads bool
		}{
			{"nothing", followed("bob", "ann"), homes{both, both, []string{ann}}, true},
			{"bob mutes ann", &pb.UserMuted{ActorId: "bob", TargetId: "ann"}, homes{both, []string{bob}, []string{ann}}, true},
			{"ann blocks bob", &pb.UserBlocked{ActorId: "ann", TargetId: "bob"}, homes{[]string{ann}, []string{bob}, []string{ann}}, false},
			{"bob unmutes ann", &pb.UserUnmuted{ActorId: "bob", TargetId: "ann"}, homes{[]string{ann}, []string{bob}, []string{ann}}, false},
			{"bob blocks ann", &pb.UserBlocked{ActorId: "bob", TargetId: "ann"}, homes{[]string{ann}, []string{bob}, []string{ann}}, false},
			{"ann unblocks bob", &pb.UserUnblocked{ActorId: "ann", TargetId: "bob"}, homes{[]string{ann}, []string{bob}, []string{ann}}, false},
			{"bob unblocks ann", &pb.UserUnblocked{ActorId: "bob", TargetId: "ann"}, homes{both, both, []string{ann}}, true},
		} {
			w.clock.Advance(5 * time.Second)
			p.apply(t, tt.fact)
			t.Log(tt.name)
			p.wantHome(t, "ann", tt.want.ann...)
			p.wantHome(t, "bob", tt.want.bob...)
			p.wantHome(t, "cat", tt.want.cat...)
			want := []string{}
			if tt.bobReads {
				want = []string{ann}
			}
			if got, err := p.authorFeed(t.Context(), "bob", "ann", 5); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: GetAuthorFeed = %v, %v, want %v", tt.name, got, err, want)
			}
			if _, err := p.api.GetPost(t.Context(), &pb.GetPostRequest{UserId: "bob", PostId: ann}); (err == nil) != tt.bobReads {
				t.Errorf("%s: GetPost = %v, want readable %v", tt.name, err, tt.bobReads)
			}
			if got, err := p.authorFeed(t.Context(), "ann", "ann", 5); err != nil || !slices.Equal(got, []string{ann}) {
				t.Errorf("%s: ann's own page = %v, %v", tt.name, got, err)
			}
		}
	})
}

func TestUsersArePaged(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, Config{})
		for _, n := range []int{0, 1, 100, 1500} {
			user := fmt.Sprintf("star%d", n)
			var want []string
			for i := range n {
				want = append(want, fmt.Sprintf("fan%04d", i))
				if err := p.store.link(t.Context(), edge{following, followers, want[i], user, w.ids.Next(), true}); err != nil {
					t.Fatal(err)
				}
			}
			for _, size := range []int{7, 100, 1000} {
				var got []string
				for token := ""; ; {
					ids, next, err := p.Followers(t.Context(), user, size, token)
					if err != nil || len(ids) > size {
						t.Fatalf("Followers(%s, %d) = %d ids, %v", user, size, len(ids), err)
					}
					got = append(got, ids...)
					if token = next; token == "" {
						break
					}
				}
				slices.Sort(got)
				if got = slices.Compact(got); !slices.Equal(got, want) {
					t.Errorf("Followers(%s) in pages of %d: %d ids, want %d", user, size, len(got), len(want))
				}
			}
		}
		ids, next, err := p.Following(t.Context(), "fan0000", 10, "")
		if slices.Sort(ids); err != nil || next != "" || !slices.Equal(ids, []string{"star1", "star100", "star1500"}) {
			t.Errorf("Following = %v, %q, %v", ids, next, err)
		}
		if _, _, err := p.Following(t.Context(), "fan0000", 10, "rubbish"); fault.KindOf(err) != fault.InvalidArgument {
			t.Errorf("Following with a broken token: %v", err)
		}
	})
}

func TestSelfFollowPushesOnce(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("ann", "ann"))
		p.wantHome(t, "ann")
		id := p.post(t, "ann")
		if got, want := w.list(t, "ann"), []string{id, sentinel}; !slices.Equal(got, want) {
			t.Errorf("list = %v, want %v", got, want)
		}
	})
}
