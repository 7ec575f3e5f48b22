package load

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// kind is what one step of a plan does.
type kind uint8

const (
	kindFollow kind = iota
	kindUnfollow
	kindPost
	kindDelete
	kindBlock
	kindUnblock
	kindMute
	kindUnmute
	kindRead // opens the home feed; no command
	kinds
)

// eventTypes names the fact that a kind of command becomes.
var eventTypes = [kinds]string{
	kindFollow: "UserFollowed", kindUnfollow: "UserUnfollowed",
	kindPost: "PhotoPosted", kindDelete: "PhotoDeleted",
	kindBlock: "UserBlocked", kindUnblock: "UserUnblocked",
	kindMute: "UserMuted", kindUnmute: "UserUnmuted",
}

// step is one command, or one read. Users are indexes into the graph; post is the
// number of a post in the plan.
type step struct {
	kind          kind
	actor, target uint32
	post          uint32
}

// key returns the user by whom the log is partitioned, as internal/event has it:
// steps of one key keep their order.
func (s step) key() uint32 {
	if s.kind == kindFollow || s.kind == kindUnfollow {
		return s.target
	}
	return s.actor
}

// plan is what a run does: its phases one after the other, each complete before
// the next begins.
type plan struct {
	follows, reads, rest []step
	posts                int
}

// commands is how many steps there are.
func (p plan) commands() int { return len(p.follows) + len(p.reads) + len(p.rest) }

const (
	// activityExponent is the Zipf exponent of how willing people are to post,
	// apart from how many followers they have. With followers as weights, authors of
	// the Slashdot graph have about 140 followers a post, the figure that design
	// targets speak of, and no author holds more than some percent of all posts.
	activityExponent = 0.6
	// refollowed is the share of unfollows that are taken back later.
	refollowed = 0.5
	// lifted is the share of blocks and mutes that are taken back later.
	lifted = 0.25
)

// Streams of randomness, so that a setting changes its own part of the plan only.
const (
	streamTimes uint64 = iota
	streamAuthors
	streamUnfollows
	streamBlocks
	streamMutes
	streamReads
	streamContent
)

func newPlan(cfg Config) plan {
	var (
		g     = cfg.Graph
		times = source(cfg.Seed, streamTimes)
		rest  schedule // after the follows, or all of it with Interleave
		first = &schedule{}
	)
	if cfg.Interleave {
		first = &rest
	}
	begun := make([]uint64, len(g.Follows))
	for i, e := range g.Follows {
		begun[i] = first.add(times, 0, step{kind: kindFollow, actor: e.Follower, target: e.Followee})
		if !cfg.Interleave {
			begun[i] = 0
		}
	}
	rest.posts(cfg)

	unfollows := source(cfg.Seed, streamUnfollows)
	for _, i := range sample(unfollows, len(g.Follows), cfg.Unfollows) {
		e := g.Follows[i]
		ended := rest.add(unfollows, begun[i], step{kind: kindUnfollow, actor: e.Follower, target: e.Followee})
		if unfollows.Float64() < refollowed {
			rest.add(unfollows, ended, step{kind: kindFollow, actor: e.Follower, target: e.Followee})
		}
	}
	blocks := source(cfg.Seed, streamBlocks)
	for _, i := range sample(blocks, len(g.Follows), cfg.Blocks) {
		actor, target := g.Follows[i].Follower, g.Follows[i].Followee
		if blocks.IntN(2) == 0 {
			actor, target = target, actor
		}
		rest.passing(blocks, kindBlock, kindUnblock, actor, target)
	}
	mutes := source(cfg.Seed, streamMutes)
	for _, i := range sample(mutes, len(g.Follows), cfg.Mutes) {
		rest.passing(mutes, kindMute, kindUnmute, g.Follows[i].Follower, g.Follows[i].Followee)
	}
	reads := source(cfg.Seed, streamReads)
	var opened schedule
	for _, u := range sample(reads, len(g.Users), cfg.Warm) {
		into := &opened
		if cfg.Interleave {
			into = &rest
		}
		into.add(reads, 0, step{kind: kindRead, actor: uint32(u)})
	}

	p := plan{reads: opened.steps(), rest: rest.steps(), posts: cfg.Posts}
	if !cfg.Interleave {
		p.follows = first.steps()
	}
	return p
}

// posts adds the posts and their deletes.
func (s *schedule) posts(cfg Config) {
	if cfg.Posts == 0 {
		return
	}
	rng := source(cfg.Seed, streamAuthors)
	draw := authors(rng, cfg.Graph)
	for n := range uint32(cfg.Posts) {
		author := draw()
		posted := s.add(rng, 0, step{kind: kindPost, actor: author, post: n})
		// Always drawn, so that the share of deletes does not move the posts.
		chance, when := rng.Float64(), rng.Uint64()
		if chance < cfg.Deletes {
			s.at(later(posted, when), step{kind: kindDelete, actor: author, post: n})
		}
	}
}

// authors returns a function that draws who posts next: a user's weight is their
// followers + 1, times a Zipf law over a random ranking of all users, since of two
// people equally followed one posts daily and one never.
func authors(rng *rand.Rand, g *Graph) func() uint32 {
	weights := make([]float64, len(g.Users))
	for _, e := range g.Follows {
		weights[e.Followee]++
	}
	for rank, u := range rng.Perm(len(g.Users)) {
		weights[u] = (weights[u] + 1) * math.Pow(float64(rank+1), -activityExponent)
	}
	sum := 0.0
	for u, w := range weights {
		sum += w
		weights[u] = sum
	}
	return func() uint32 {
		u := sort.SearchFloat64s(weights, rng.Float64()*sum)
		return uint32(min(u, len(weights)-1))
	}
}

// horizon is the end of a plan's time, which only orders steps.
const horizon = 1 << 60

// schedule collects steps with their times.
type schedule struct{ timed []timedStep }

type timedStep struct {
	step

	at uint64
}

func (s *schedule) at(t uint64, st step) { s.timed = append(s.timed, timedStep{st, t}) }

// add puts a step at a random time after another one and returns the time.
func (s *schedule) add(rng *rand.Rand, after uint64, st step) uint64 {
	t := later(after, rng.Uint64())
	s.at(t, st)
	return t
}

// later makes a random number a time after t.
func later(t, random uint64) uint64 { return t + 1 + random%(horizon-min(t, horizon-1)) }

// passing adds a step that, for some, is taken back later.
func (s *schedule) passing(rng *rand.Rand, begin, end kind, actor, target uint32) {
	begun := s.add(rng, 0, step{kind: begin, actor: actor, target: target})
	if rng.Float64() < lifted {
		s.add(rng, begun, step{kind: end, actor: actor, target: target})
	}
}

func (s *schedule) steps() []step {
	slices.SortStableFunc(s.timed, func(a, b timedStep) int { return cmp.Compare(a.at, b.at) })
	steps := make([]step, len(s.timed))
	for i, t := range s.timed {
		steps[i] = t.step
	}
	return steps
}

// sample draws a share of 0..n-1, each once, in random order.
func sample(rng *rand.Rand, n int, share float64) []int {
	k := int(math.Round(float64(n) * share))
	if k == 0 {
		return nil // a permutation of a million for nothing
	}
	return rng.Perm(n)[:k]
}

func source(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
