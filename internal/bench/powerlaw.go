package bench

import (
	"math"
	"math/rand/v2"
	"slices"
)

// powerLaw is a directed graph in which few users have most followers.
type powerLaw struct {
	// followers holds each user's followers.
	followers [][]int32
	follows   int
	// drawn holds the running sum of the numbers of followers, to draw authors by.
	drawn []int
	rand  *rand.Rand
}

// exponent is that of the numbers of followers by rank: with 150 followers a post
// the most popular users have some 3,000, the least ten.
const exponent = 0.6

// ranks is how many different numbers of followers there are. They are the same in
// any larger population, so that a post costs the same but for the number of users.
const ranks = 10_000

// newPowerLaw returns a graph, always the same one, in which a post of an author
// who is drawn by the number of followers reaches about audience of them.
func newPowerLaw(users, audience int) powerLaw {
	g := powerLaw{followers: make([][]int32, users), drawn: make([]int, users), rand: rand.New(rand.NewPCG(1, 2))}
	var sum, squares float64
	share := func(place int) float64 { return math.Pow(float64(1+place*min(users, ranks)/users), -exponent) }
	for place := range users {
		sum += share(place)
		squares += share(place) * share(place)
	}
	scale := float64(audience) * sum / squares
	for place, user := range g.rand.Perm(users) {
		n := min(users-1, max(1, int(scale*share(place))))
		g.followers[user] = g.pick(users, n, user)
	}
	for user, f := range g.followers {
		g.follows += len(f)
		g.drawn[user] = g.follows
	}
	return g
}

// pick returns n different users but for one.
func (g *powerLaw) pick(users, n, but int) []int32 {
	seen := make(map[int]bool, n+1)
	seen[but] = true
	picked := make([]int32, 0, n)
	for len(picked) < n {
		if u := g.rand.IntN(users); !seen[u] {
			seen[u] = true
			picked = append(picked, int32(u))
		}
	}
	return picked
}

// author draws an author by the number of followers.
func (g *powerLaw) author() int {
	user, _ := slices.BinarySearch(g.drawn, 1+g.rand.IntN(g.follows))
	return user
}
