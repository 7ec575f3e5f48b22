package feed

import (
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
)

const (
	// generationFor and generationFacts say when a generation of recent facts is
	// full; two are kept. 50,000 posts take about 75 MB.
	generationFor   = time.Minute
	generationFacts = 50_000
)

// recent remembers the facts of the last minute or two. A stream begins with what
// Redis has, but the consumers that write it may be behind the log, and what was in
// neither would be lost at the seam. So a stream begins with Redis and these.
type recent struct {
	now func() time.Time
	// generations are the older and the younger one.
	generations [2]*generation
	// next is, for each partition that was seen, the offset after its last fact.
	next map[int32]int64
}

// generation is the facts of some time, those of a key in the order of the log.
type generation struct {
	began time.Time
	facts int
	// posts are an author's posts, as messages: few are ever decoded.
	posts map[string][]*message.Message
	// gone are the posts that were deleted, with their authors.
	gone map[event.ID]string
	// edges are the facts about a user's bonds.
	edges map[string][]edgeFact
	// start is, for each partition, the offset from which facts are here.
	start map[int32]int64
}

// edgeFact is a fact about one user's bond to another one.
type edgeFact struct {
	other   string
	bond    bond
	set     bool
	version event.ID
}

func newRecent(now func() time.Time) *recent {
	r := &recent{now: now, next: map[int32]int64{}}
	r.generations = [2]*generation{r.generation(), r.generation()}
	return r
}

func (r *recent) generation() *generation {
	return &generation{
		began: r.now(), start: maps.Clone(r.next),
		posts: map[string][]*message.Message{}, gone: map[event.ID]string{}, edges: map[string][]edgeFact{},
	}
}

// at notes which record comes now and returns where its fact belongs.
func (r *recent) at(partition int32, offset int64) *generation {
	if _, seen := r.next[partition]; !seen {
		for _, g := range r.generations {
			g.start[partition] = offset
		}
	}
	young := r.generations[1]
	if young.facts >= generationFacts || r.now().Sub(young.began) >= generationFor {
		r.generations = [2]*generation{young, r.generation()}
		young = r.generations[1]
	}
	r.next[partition] = offset + 1
	young.facts++
	return young
}

// start returns from which offset of each partition on all facts are remembered.
func (r *recent) start() map[int32]int64 { return maps.Clone(r.generations[0].start) }

// posts returns the posts of an author, those that were deleted too.
func (r *recent) posts(author string) []*message.Message {
	old, young := r.generations[0].posts[author], r.generations[1].posts[author]
	return append(old[:len(old):len(old)], young...)
}

// deleted says whether the author deleted a post lately.
func (r *recent) deleted(author string, id event.ID) bool {
	return r.generations[0].gone[id] == author || r.generations[1].gone[id] == author
}

// edges returns the facts about a user's bonds, without those that are stale when
// their turn comes.
func (r *recent) edges(user string) []edgeFact {
	old, young := r.generations[0].edges[user], r.generations[1].edges[user]
	return append(old[:len(old):len(old)], young...)
}

// stale says whether a newer fact about the same bond was before this one. The rule
// is that of lua/link.lua: within clockSkew the later one in the log counts.
func (r *recent) stale(user string, e edgeFact) bool {
	overruled := shift(e.version, clockSkew)
	for _, g := range r.generations {
		for _, known := range g.edges[user] {
			if known.other == e.other && known.bond == e.bond && known.version > overruled {
				return true
			}
		}
	}
	return false
}
