package feed

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// delivery is an event of the log and how often it was delivered in vain.
type delivery struct {
	event    event.Event
	edge     string // which edge it is about, "" if none
	attempts int
	begun    bool // it may have taken effect in part
}

// partition is the log of one key: what is before next was acked, what is before
// done was acked once and may come again after a crash.
type partition struct {
	log        []*delivery
	next, done int
}

// system is a feed in two processes, the log that it consumes, and the model.
type system struct {
	t         *rapid.T
	w         *world
	processes []*process
	// hosts make the ids of facts about edges, with clocks that differ by less than
	// the skew; postHosts those of posts, which may differ more, and be late.
	hosts, postHosts []*event.IDs
	keys             map[string]*partition
	model            *model // of what was delivered
	scroll           *scrolling
	users            []string
}

// scrolling is a user's way down a feed while the world goes on.
type scrolling struct {
	user, token string
	seen        []string
	// must holds what was visible all the way.
	must map[string]bool
}

var propertyUsers = []string{"ann", "bob", "cat", "dan"}

func (s *system) append(key, edge string, id event.ID, fact proto.Message) {
	if s.keys[key] == nil {
		s.keys[key] = &partition{}
	}
	e := event.Event{ID: id, Time: s.w.clock.Now(), Source: "test", Data: fact}
	s.keys[key].log = append(s.keys[key].log, &delivery{event: e, edge: edge})
}

func (s *system) user(label string) string { return rapid.SampledFrom(s.users).Draw(s.t, label) }

// author is often the same one, so that somebody has posts and followers enough.
func (s *system) author() string {
	if rapid.Bool().Draw(s.t, "star") {
		return s.users[0]
	}
	return s.user("author")
}

func (s *system) pair() (a, b string) {
	a = s.user("a")
	b = rapid.SampledFrom(slices.DeleteFunc(slices.Clone(s.users), func(u string) bool { return u == a })).Draw(s.t, "b")
	return a, b
}

func (s *system) host(hosts []*event.IDs) *event.IDs {
	return rapid.SampledFrom(hosts).Draw(s.t, "host")
}

// Post appends one to five posts of an author.
func (s *system) Post(*rapid.T) {
	author := s.author()
	for range rapid.IntRange(1, 5).Draw(s.t, "posts") {
		id := s.host(s.postHosts).Next()
		s.append(author, "", s.w.ids.Next(), posted(author, id, s.w.clock.Now()))
	}
}

// Delete appends a delete, sometimes of somebody else's post.
func (s *system) Delete(*rapid.T) {
	var ids []string
	authors := map[string]string{}
	for _, p := range s.keys {
		for _, d := range p.log {
			if fact, ok := d.event.Data.(*pb.PhotoPosted); ok {
				ids = append(ids, fact.GetPhoto().GetPostId())
				authors[fact.GetPhoto().GetPostId()] = fact.GetPhoto().GetAuthorId()
			}
		}
	}
	if len(ids) == 0 {
		s.t.Skip("no posts")
	}
	id := rapid.SampledFrom(newestFirst(ids...)).Draw(s.t, "id")
	author := authors[id]
	if rapid.IntRange(0, 3).Draw(s.t, "foreign") == 0 {
		author = s.user("author")
	}
	s.append(author, "", s.w.ids.Next(), deleted(author, id))
}

func (s *system) edge(kind string, byTarget bool, on, off func(a, b string) proto.Message) {
	a, b := s.pair()
	fact, key := on(a, b), a
	if rapid.IntRange(0, 2).Draw(s.t, "end") == 0 {
		fact = off(a, b)
	}
	if byTarget {
		key = b
	}
	s.append(key, kind+a+b, s.host(s.hosts).Next(), fact)
}

// Follow appends a follow or an unfollow.
func (s *system) Follow(*rapid.T) {
	s.edge("follow", true, func(a, b string) proto.Message { return followed(a, b) },
		func(a, b string) proto.Message { return unfollowed(a, b) })
}

// Crowd makes all others follow an author, or leave them, so that the author passes
// the bounds between pushing and merging. One of them stays, whose list must survive
// that.
func (s *system) Crowd(*rapid.T) {
	author, leave := s.author(), rapid.Bool().Draw(s.t, "leave")
	loyal := s.user("loyal")
	for _, user := range s.users {
		switch {
		case user == author || user == loyal && leave:
		case leave:
			s.append(author, "follow"+user+author, s.host(s.hosts).Next(), unfollowed(user, author))
		default:
			s.append(author, "follow"+user+author, s.host(s.hosts).Next(), followed(user, author))
		}
	}
	s.append(author, "", s.w.ids.Next(), posted(author, s.w.ids.Next(), s.w.clock.Now()))
	p, other := s.pick()
	part := s.keys[author]
	s.deliverAll(p, author, len(part.log)-part.next-1)
	fails := s.disturb(p, other, author, loyal)
	err := s.deliverNext(p, author) // the post, which turns its author
	if p.tap.disarm(); err != nil && !fails {
		s.t.Fatalf("deliver: %v", err)
	}
	s.check(other, loyal)
}

// Block appends a block or an unblock.
func (s *system) Block(*rapid.T) {
	s.edge("block", false, func(a, b string) proto.Message { return &pb.UserBlocked{ActorId: a, TargetId: b} },
		func(a, b string) proto.Message { return &pb.UserUnblocked{ActorId: a, TargetId: b} })
}

// Mute appends a mute or an unmute.
func (s *system) Mute(*rapid.T) {
	s.edge("mute", false, func(a, b string) proto.Message { return &pb.UserMuted{ActorId: a, TargetId: b} },
		func(a, b string) proto.Message { return &pb.UserUnmuted{ActorId: a, TargetId: b} })
}

// Wait lets time pass: within freshness, across it, and beyond the disorder.
func (s *system) Wait(*rapid.T) {
	s.w.clock.Advance(rapid.SampledFrom([]time.Duration{
		time.Second, 20 * time.Second, 65 * time.Second, 5 * time.Minute,
	}).Draw(s.t, "wait"))
}
