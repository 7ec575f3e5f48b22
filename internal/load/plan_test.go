package load

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/testenv"
)

// busy is a setting with a bit of everything.
func busy(g *Graph) Config {
	return Config{Graph: g, Posts: 2000, Seed: 7, Deletes: 0.05, Unfollows: 0.05, Blocks: 0.01, Mutes: 0.01, Warm: 0.5}
}

func TestPlanIsMadeOfItsSeed(t *testing.T) {
	t.Parallel()
	g := starGraph(500)
	a, again := newPlan(busy(g)), newPlan(busy(g))
	if diff := cmp.Diff(a, again, cmp.AllowUnexported(plan{}, step{})); diff != "" {
		t.Errorf("the same seed gives another plan:\n%s", diff)
	}
	other := busy(g)
	other.Seed++
	if slices.Equal(a.rest, newPlan(other).rest) {
		t.Error("another seed gives the same plan")
	}
	calm := busy(g)
	calm.Deletes, calm.Unfollows, calm.Blocks, calm.Mutes, calm.Warm = 0, 0, 0, 0, 0
	if diff := cmp.Diff(posts(newPlan(calm)), posts(a)); diff != "" {
		t.Errorf("churn moves posts:\n%s", diff)
	}
	for n := range uint32(100) {
		if !proto.Equal(photo(busy(g), 3, n), photo(busy(g), 3, n)) {
			t.Errorf("photo %d differs from itself", n)
		}
	}
}

func TestPlanKeepsItsShares(t *testing.T) {
	t.Parallel()
	g := starGraph(2000)
	follows := len(g.Follows)
	for _, interleave := range []bool{false, true} {
		cfg := busy(g)
		cfg.Interleave = interleave
		p := newPlan(cfg)
		count := make(map[kind]int)
		for _, s := range slices.Concat(p.follows, p.reads, p.rest) {
			count[s.kind]++
		}
		for _, tt := range []struct {
			kind       kind
			want, slip int
		}{
			{kindPost, 2000, 0},
			{kindDelete, 100, 40},
			{kindUnfollow, follows / 20, 1},
			{kindFollow, follows + follows/40, follows / 100},
			{kindBlock, follows / 100, 1},
			{kindMute, follows / 100, 1},
			{kindUnblock, follows / 400, follows / 400},
			{kindUnmute, follows / 400, follows / 400},
			{kindRead, len(g.Users) / 2, 1},
		} {
			if got := count[tt.kind]; got == 0 || got < tt.want-tt.slip || got > tt.want+tt.slip {
				t.Errorf("interleave %v: %d steps of kind %d, want %d±%d", interleave, got, tt.kind, tt.want, tt.slip)
			}
		}
		if interleave != (len(p.follows)+len(p.reads) == 0) {
			t.Errorf("interleave %v: %d follows and %d reads stand apart", interleave, len(p.follows), len(p.reads))
		}
	}
}

// A step that undoes another stands after it, under the same key.
func TestPlanUndoesOnlyWhatWasDone(t *testing.T) {
	t.Parallel()
	for _, interleave := range []bool{false, true} {
		cfg := busy(starGraph(500))
		cfg.Interleave = interleave
		p := newPlan(cfg)
		undoes := map[kind]kind{kindUnfollow: kindFollow, kindDelete: kindPost, kindUnblock: kindBlock, kindUnmute: kindMute}
		done := make(map[step]uint32) // to the key it was done under
		for i, s := range slices.Concat(p.follows, p.reads, p.rest) {
			if undone, ok := undoes[s.kind]; ok {
				before := s
				before.kind = undone
				key, ok := done[before]
				if !ok || key != s.key() {
					t.Fatalf("interleave %v: step %d %+v has no %+v before it", interleave, i, s, before)
				}
				delete(done, before)
			} else if _, twice := done[s]; twice && s.kind != kindRead && s.kind != kindBlock {
				t.Fatalf("interleave %v: step %d %+v stands there twice", interleave, i, s)
			}
			done[s] = s.key()
		}
	}
}

func TestFollowsOnly(t *testing.T) {
	t.Parallel()
	cfg := busy(starGraph(100))
	cfg.FollowsOnly = true
	p := newPlan(cfg.withDefaults())
	if len(p.follows) != len(cfg.Graph.Follows) || len(p.reads) != 0 || len(p.rest) != 0 {
		t.Errorf("%d follows, %d reads, %d others; want %d, 0, 0", len(p.follows), len(p.reads), len(p.rest), len(cfg.Graph.Follows))
	}
}

// The API takes every post of a plan.
func TestContentIsValid(t *testing.T) {
	t.Parallel()
	cfg := Config{Graph: starGraph(50), Seed: 3}
	captions := make(map[string]bool)
	mentioned := 0
	for n := range uint32(2000) {
		req := photo(cfg, n%50, n)
		if err := protovalidate.Validate(req); err != nil {
			t.Fatalf("photo %d: %v\n%v", n, err, req)
		}
		if want := fmt.Sprintf("load/3/%d", n); req.GetIdempotencyKey() != want {
			t.Errorf("photo %d has key %q, want %q", n, req.GetIdempotencyKey(), want)
		}
		for _, m := range req.GetMedia() {
			if len(m.GetBlurhash()) != 28 {
				t.Errorf("photo %d has blurhash %q, want 28 characters", n, m.GetBlurhash())
			}
		}
		captions[req.GetCaption()] = true
		if len(req.GetMentions()) > 0 {
			mentioned++
			if !strings.Contains(req.GetCaption(), "@"+req.GetMentions()[0]) {
				t.Errorf("photo %d mentions %v and says %q", n, req.GetMentions(), req.GetCaption())
			}
		}
	}
	if len(captions) < 1000 || mentioned < 100 {
		t.Errorf("2000 photos: %d captions, %d with mentions", len(captions), mentioned)
	}
}

func TestRealGraphs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file                    string
		users, follows          int
		selfLoops, duplicates   int
		followersLow, topLow    float64 // followers a post; share of the busiest 1 % of users
		followersHigh, oneAtTop float64 // ; most that one author may post
	}{
		{"socfb-Reed98.edges", 962, 18812, 0, 0, 20, 0.02, 70, 0.05},
		{"soc-Slashdot0902.txt.gz", 82168, 870161, 78303, 0, 100, 0.3, 190, 0.05},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			g, err := ReadFile(testenv.SharedData(t, tt.file))
			if err != nil {
				t.Fatal(err)
			}
			got := [4]int{len(g.Users), len(g.Follows), g.SelfLoops, g.Duplicates}
			if want := [4]int{tt.users, tt.follows, tt.selfLoops, tt.duplicates}; got != want {
				t.Errorf("users, follows, self-loops, duplicates = %v, want %v", got, want)
			}
			followers := make(map[uint32]int)
			for _, e := range g.Follows {
				followers[e.Followee]++
			}
			const n = 20000
			byAuthor := make([]int, len(g.Users))
			deliveries := 0
			draw := authors(source(1, streamAuthors), g)
			for range n {
				author := draw()
				byAuthor[author]++
				deliveries += followers[author]
			}
			slices.Sort(byAuthor)
			slices.Reverse(byAuthor)
			top := 0
			for _, c := range byAuthor[:len(byAuthor)/100] {
				top += c
			}
			mean, share, one := float64(deliveries)/n, float64(top)/n, float64(byAuthor[0])/n
			t.Logf("%.1f followers a post; the busiest 1 %% of users post %.1f %%, one posts %.1f %%", mean, 100*share, 100*one)
			if mean < tt.followersLow || mean > tt.followersHigh {
				t.Errorf("%.1f followers a post, want %v to %v", mean, tt.followersLow, tt.followersHigh)
			}
			if share < tt.topLow || one > tt.oneAtTop {
				t.Errorf("the busiest 1 %% of users post %.3f, one posts %.3f; want more than %v and less than %v", share, one, tt.topLow, tt.oneAtTop)
			}
		})
	}
}

func posts(p plan) []uint32 {
	var authors []uint32
	for _, s := range p.rest {
		if s.kind == kindPost {
			authors = append(authors, s.actor)
		}
	}
	return authors
}

// starGraph has n users; user k is followed by about n/(k+1) of the others.
func starGraph(n uint32) *Graph {
	g := &Graph{}
	for u := range n {
		g.Users = append(g.Users, fmt.Sprintf("user-%d", u))
		for f := u + 1; f < u+1+n/(u+1) && f < n; f++ {
			g.Follows = append(g.Follows, Edge{Follower: f, Followee: u})
		}
	}
	return g
}
