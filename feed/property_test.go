package feed

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// Flush empties Redis: the whole log comes again.
func (s *system) Flush(*rapid.T) {
	if rapid.IntRange(0, 9).Draw(s.t, "really") > 0 {
		return
	}
	s.scroll = nil
	s.must(s.w.flush(s.t.Context()), "flush")
	for _, part := range s.keys {
		part.next, part.done = 0, 0
		for _, d := range part.log {
			d.attempts, d.begun = 0, false
		}
	}
	s.model = newModel()
}

// pageSizes are mostly one, as a process keeps first pages of the size that was asked
// for last.
var pageSizes = []int32{3, 3, 3, 3, 1, 2, 12, 100}

// Read reads a home feed at any moment.
func (s *system) Read(*rapid.T) {
	p, other := s.pick()
	user, size := s.user("user"), rapid.SampledFrom(pageSizes).Draw(s.t, "size")
	if rapid.Bool().Draw(s.t, "cold") {
		s.w.raw.Del(s.t.Context(), feedKey(user))
	}
	fails := s.disturb(p, other, "", user)
	s.read(p, user, size, fails)
	p.tap.disarm()
	s.check(p, user)
}

func (s *system) read(p *process, user string, size int32, fails bool) {
	if _, err := p.home(s.t.Context(), user, size, false); err != nil && !fails {
		s.t.Fatalf("home(%s): %v", user, err)
	}
}

// Scroll reads one more page of a feed that is being scrolled.
func (s *system) Scroll(*rapid.T) {
	p, other := s.pick()
	if s.scroll == nil {
		if !s.settled() {
			return
		}
		s.scroll = &scrolling{user: s.user("user"), must: map[string]bool{}}
		for _, id := range s.model.home(s.scroll.user) {
			s.scroll.must[id] = true
		}
	}
	sc, size := s.scroll, rapid.Int32Range(1, 7).Draw(s.t, "size")
	s.disturb(p, other, "", sc.user)
	r, err := p.api.GetHomeFeed(s.t.Context(), &pb.GetHomeFeedRequest{UserId: sc.user, PageSize: size, PageToken: sc.token})
	p.tap.disarm()
	if err != nil {
		return // the same page again next time
	}
	sc.seen, err = appendPage(sc.seen, false, r.GetPhotos(), size, r.GetNextPageToken(), r.GetHasMore())
	s.must(err, "scroll of "+sc.user)
	sc.token = r.GetNextPageToken()
	if r.GetHasMore() {
		return
	}
	for id := range sc.must {
		if !slices.Contains(sc.seen, id) {
			s.t.Fatalf("scroll of %s: post %s was there all the while and was not shown; shown %v", sc.user, id, sc.seen)
		}
	}
	s.scroll = nil
}

// settled says that every event has taken effect as a whole or not at all, so that
// the API must say what the model says.
func (s *system) settled() bool {
	for _, part := range s.keys {
		if part.unsettled() {
			return false
		}
	}
	return true
}

func (p *partition) unsettled() bool {
	return p.next < p.done || p.next < len(p.log) && p.log[p.next].begun
}

// settle ends what was begun: retries, and what a crash brought back.
func (s *system) settle() {
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		for s.keys[key].unsettled() {
			p, _ := s.pick()
			s.must(s.deliverNext(p, key), "settle")
		}
	}
}

// check compares the feeds of a user with the model.
func (s *system) check(p *process, user string) {
	if !s.settled() {
		if rapid.Bool().Draw(s.t, "leave") {
			return
		}
		s.settle()
	}
	size := rapid.SampledFrom(pageSizes).Draw(s.t, "size")
	got, err := p.home(s.t.Context(), user, size, true)
	s.must(err, "home of "+user)
	if want := s.model.home(user); !slices.Equal(got, want) {
		s.t.Fatalf("home(%s) in pages of %d differs\ngot  %v\nwant %v\nlist %v", user, size, got, want,
			s.w.raw.LRange(s.t.Context(), feedKey(user), 0, -1).Val())
	}
	author := s.user("author")
	got, err = p.authorFeed(s.t.Context(), user, author, size)
	s.must(err, "author feed")
	if want := s.model.author(user, author); !slices.Equal(got, want) {
		s.t.Fatalf("author feed of %s for %s differs\ngot  %v\nwant %v", author, user, got, want)
	}
}

// Settle delivers everything and checks every feed.
func (s *system) Settle(*rapid.T) {
	for keys := s.pending(""); len(keys) > 0; keys = s.pending("") {
		p, _ := s.pick()
		s.must(s.deliverNext(p, keys[len(keys)/2]), "settle")
	}
	p, _ := s.pick()
	for _, user := range s.users {
		s.check(p, user)
	}
}

// checkProperty plays random worlds against the model.
func checkProperty(t *testing.T, w *world) {
	processes := []*process{w.process(t, Config{}), w.process(t, Config{})}
	rapid.Check(t, func(rt *rapid.T) {
		if err := w.flush(context.Background()); err != nil {
			rt.Fatal(err)
		}
		s := &system{t: rt, w: w, keys: map[string]*partition{}, model: newModel(), users: propertyUsers, processes: processes}
		for _, p := range processes {
			s.restart(p)
		}
		for i, skew := range []time.Duration{900 * time.Millisecond, -900 * time.Millisecond, 20 * time.Second, -20 * time.Second, -3 * time.Minute} {
			ids, err := event.NewIDs(10+i, func() time.Time { return w.clock.Now().Add(skew) })
			if err != nil {
				rt.Fatal(err)
			}
			if i < 2 {
				s.hosts = append(s.hosts, ids)
			}
			s.postHosts = append(s.postHosts, ids)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"post": s.Post, "post2": s.Post, "delete": s.Delete, "follow": s.Follow, "follow2": s.Follow,
			"block": s.Block, "block2": s.Block, "mute": s.Mute, "wait": s.Wait, "wait2": s.Wait,
			"deliver": s.Deliver, "deliver2": s.Deliver, "deliver3": s.Deliver,
			"crowd": s.Crowd, "crowd2": s.Crowd, "restart": s.Restart, "crash": s.Crash, "replay": s.Replay, "replay2": s.Replay, "lose": s.Lose, "flush": s.Flush, "rebuild": s.Rebuild,
			"read": s.Read, "read2": s.Read, "read3": s.Read, "scroll": s.Scroll, "scroll2": s.Scroll, "settle": s.Settle,
		})
		s.Settle(rt)
	})
	for _, p := range processes {
		m := p.store.metrics
		t.Logf("authors turned to merging %v times, to pushing %v; %v reads merged, %v lists built, %v pushes placed with care",
			testenv.Value(t, m.turns.WithLabelValues("merged")), testenv.Value(t, m.turns.WithLabelValues("pushed")),
			testenv.Value(t, m.mergedReads), testenv.Value(t, m.rebuilds.WithLabelValues("built")), testenv.Value(t, m.carefulPushes))
	}
}

func TestPropertyFeedsEqualTheModel(t *testing.T) {
	t.Parallel()
	printSeed(t)
	onEngines(t, checkProperty)
}

// printSeed chooses the seed of the worlds, unless -rapid.seed does, and tells it.
// The number of worlds lets 20 runs end within the ten minutes of go test even on a
// busy machine; -rapid.checks asks for another one.
func printSeed(t *testing.T) {
	checks, seed := flag.Lookup("rapid.checks"), flag.Lookup("rapid.seed").Value
	if checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("50"); err != nil {
			t.Fatal(err)
		}
	}
	if seed.String() == "0" {
		if err := seed.Set(strconv.FormatUint(rand.Uint64N(1<<32)+1, 10)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = seed.Set("0") }) // the next count has its own
	}
	t.Logf("to reproduce: -rapid.seed=%s", seed)
}
