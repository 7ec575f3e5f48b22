package feed

import (
	"slices"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// The calls of a cold read, for the tap.
const (
	callRead = iota + 1
	callBegin
	callSources
	callStates
	callLists
	callInstall
)

func TestWhatHappensDuringABuildIsInTheFeed(t *testing.T) {
	t.Parallel()
	for call := callRead; call <= callInstall; call++ {
		onEngines(t, func(t *testing.T, w *world) {
			here, there := w.process(t, smallConfig()), w.process(t, smallConfig())
			here.apply(t, followed("bob", "ann"), followed("bob", "dan"))
			old, lost, late := here.post(t, "ann"), here.post(t, "dan"), here.post(t, "cat")
			here.restart(t, smallConfig()) // the scripts are known, so calls can be counted
			there.wantHome(t, "nobody")
			w.clock.Advance(10 * time.Second)
			var landed string
			here.tap.arm(call, func() {
				landed = there.post(t, "ann")
				there.apply(t, followed("bob", "cat"), unfollowed("bob", "dan"))
			}, 0, false)
			// The read itself may show either state; the list must be right.
			if _, err := here.home(t.Context(), "bob", 3, false); err != nil {
				t.Fatal(err)
			}
			here.tap.disarm()
			here.wantHome(t, "bob", landed, late, old)
			if list := w.list(t, "bob"); slices.Contains(list, lost) {
				t.Errorf("call %d: list = %v holds a post of an author who is not followed", call, list)
			}
		})
	}
}

func TestAPushThatLandsDuringABuildStays(t *testing.T) {
	t.Parallel()
	for call := callBegin; call <= callInstall; call++ {
		onEngines(t, func(t *testing.T, w *world) {
			here, there := w.process(t, smallConfig()), w.process(t, smallConfig())
			here.apply(t, followed("bob", "ann"))
			want := []string{here.post(t, "ann")}
			there.wantHome(t, "nobody")
			here.tap.arm(call, func() {
				for range 13 { // beyond cap and slack: a trim must not take the marker
					w.clock.Advance(3 * time.Minute)
					want = append(want, there.post(t, "ann"))
				}
			}, 0, false)
			if _, err := here.home(t.Context(), "bob", 3, false); err != nil {
				t.Fatal(err)
			}
			here.tap.disarm()
			if built := testenv.Value(t, here.store.metrics.rebuilds.WithLabelValues("built")); built != 1 {
				t.Errorf("call %d: %v builds were finished, want 1", call, built)
			}
			want = newestFirst(want...)
			if list := w.list(t, "bob"); len(list) < 8 || !slices.Equal(list[:8], want[:8]) {
				t.Errorf("call %d: list = %v, want %v and older", call, list, want[:8])
			}
			here.wantHome(t, "bob", want...)
		})
	}
}

func TestADeadBuilderIsReplaced(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	here, there := w.process(t, smallConfig()), w.process(t, smallConfig())
	here.apply(t, followed("bob", "ann"))
	post := here.post(t, "ann")
	there.wantHome(t, "nobody")

	here.tap.arm(0, nil, callLists, false)
	if _, err := here.home(t.Context(), "bob", 3, false); fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("home while Redis fails: %v, want an outage", err)
	}
	here.tap.disarm()
	if list := w.list(t, "bob"); len(list) != 1 || list[0][:1] != markerPrefix {
		t.Fatalf("list = %v, want a marker", list)
	}
	// Until the marker expires, readers are served from the authors' lists.
	there.wantHome(t, "bob", post)
	w.clock.Advance(there.store.cfg.RebuildTimeout)
	there.wantHome(t, "bob", post)
	if got, want := w.list(t, "bob"), []string{post, sentinel}; !slices.Equal(got, want) {
		t.Errorf("list = %v, want %v", got, want)
	}
}

func TestAFeedThatIsDroppedAgainAndAgainIsServed(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, smallConfig())
	p.apply(t, followed("bob", "ann"))
	post := p.post(t, "ann")
	p.tap.each = func() { w.raw.Del(t.Context(), feedKey("bob")) }
	p.wantHome(t, "bob", post)
	p.tap.each = nil
	if testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("dropped")) == 0 {
		t.Error("no build was given up")
	}
}

func TestACrowdOfReadersBuildsOnce(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		post := p.post(t, "ann")
		p.wantHome(t, "nobody")
		before := testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("built"))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob"})
				if err != nil || len(r.GetPhotos()) != 1 || r.GetPhotos()[0].GetPostId() != post {
					t.Errorf("GetHomeFeed = %v, %v", r, err)
				}
			})
		}
		wg.Wait()
		if got := testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("built")) - before; got != 1 {
			t.Errorf("%v builds, want 1", got)
		}
	})
}
