package audit

import (
	"cmp"
	"fmt"
	"slices"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// Model is the definition of a home feed, in memory: the posts by whom a user
// follows and the user's own, not deleted by their author, no block between reader
// and author in either direction, the author not muted by the reader, newest id
// first. It does no I/O and is not safe for concurrent use.
//
// Users are numbers inside, and a follow takes four bytes, so a graph of 100,000
// users and a million follows with 100,000 posts fits in some tens of megabytes.
type Model struct {
	names   []string
	numbers map[string]user
	// follows holds each user's followees, sorted.
	follows [][]user
	// posts holds each author's posts that are not deleted, oldest first.
	posts [][]post
	// tombs remembers deletes: a post that comes late or again stays deleted.
	tombs  map[tomb]struct{}
	blocks map[pair]struct{}
	mutes  map[pair]struct{}
}

type (
	user uint32
	pair struct{ actor, target user }
	tomb struct {
		author user
		id     event.ID
	}
	// post is a post and the digest of its content.
	post struct {
		id     event.ID
		digest uint64
	}
)

// Post is one post of a home feed.
type Post struct {
	ID event.ID
	// Author is the user who posted.
	Author string
	// Digest is the digest of the photo as the log has it, see [DigestOf].
	Digest uint64
}

// NewModel returns the model of an empty log.
func NewModel() *Model {
	return &Model{
		numbers: make(map[string]user),
		tombs:   make(map[tomb]struct{}),
		blocks:  make(map[pair]struct{}),
		mutes:   make(map[pair]struct{}),
	}
}

// Apply adds the next event. Events of one partition key must come in the order of
// the log; a repeat of an event changes nothing while no other of its key came in
// between. Facts that have no part in the definition are ignored. An event with an
// impossible post id is an error and changes nothing.
func (m *Model) Apply(e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		return m.posted(d.GetPhoto())
	case *pb.PhotoDeleted:
		return m.deleted(d)
	case *pb.UserFollowed:
		m.follow(m.user(d.GetFollowerId()), m.user(d.GetFolloweeId()))
	case *pb.UserUnfollowed:
		m.unfollow(m.user(d.GetFollowerId()), m.user(d.GetFolloweeId()))
	case *pb.UserBlocked:
		m.blocks[m.pair(d.GetActorId(), d.GetTargetId())] = struct{}{}
	case *pb.UserUnblocked:
		delete(m.blocks, m.pair(d.GetActorId(), d.GetTargetId()))
	case *pb.UserMuted:
		m.mutes[m.pair(d.GetActorId(), d.GetTargetId())] = struct{}{}
	case *pb.UserUnmuted:
		delete(m.mutes, m.pair(d.GetActorId(), d.GetTargetId()))
	}
	return nil
}

// Users returns every user that an event named, sorted.
func (m *Model) Users() []string {
	return slices.Sorted(slices.Values(m.names))
}

// Home returns the home feed of a user, newest post first.
func (m *Model) Home(name string) []Post {
	reader, known := m.numbers[name]
	if !known {
		return nil
	}
	var home []Post
	add := func(author user) {
		for _, p := range m.posts[author] {
			home = append(home, Post{ID: p.id, Author: m.names[author], Digest: p.digest})
		}
	}
	add(reader)
	for _, author := range m.follows[reader] {
		if author != reader && m.hidden(reader, author) == "" {
			add(author)
		}
	}
	slices.SortFunc(home, func(a, b Post) int { return cmp.Compare(b.ID, a.ID) })
	return home
}

// Explain says why a post is in a user's home feed or not.
func (m *Model) Explain(name, authorName string, id event.ID) string {
	author, known := m.numbers[authorName]
	if !known {
		return "an author whom the log does not know"
	}
	if _, deleted := m.tombs[tomb{author, id}]; deleted {
		return "deleted by its author"
	}
	if _, found := m.find(author, id); !found {
		return "never posted by this author"
	}
	reader, known := m.numbers[name]
	if !known {
		return "a reader whom the log does not know"
	}
	if author == reader {
		return "their own post"
	}
	if _, follows := slices.BinarySearch(m.follows[reader], author); !follows {
		return "an author whom they do not follow"
	}
	return cmp.Or(m.hidden(reader, author), "a post by an author whom they follow")
}

func (m *Model) hidden(reader, author user) string {
	if _, muted := m.mutes[pair{reader, author}]; muted {
		return "an author whom they muted"
	}
	if _, blocks := m.blocks[pair{reader, author}]; blocks {
		return "an author whom they blocked"
	}
	if _, blocked := m.blocks[pair{author, reader}]; blocked {
		return "an author who blocked them"
	}
	return ""
}

func (m *Model) posted(photo *pb.Photo) error {
	id, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return fmt.Errorf("audit: photo of %s: %w", photo.GetAuthorId(), err)
	}
	author := m.user(photo.GetAuthorId())
	if _, deleted := m.tombs[tomb{author, id}]; deleted {
		return nil
	}
	// Nearly always at the end: ids grow with time.
	if at, found := m.find(author, id); !found {
		m.posts[author] = slices.Insert(m.posts[author], at, post{id, DigestOf(photo)})
	}
	return nil
}

func (m *Model) deleted(d *pb.PhotoDeleted) error {
	id, err := event.ParseID(d.GetPostId())
	if err != nil {
		return fmt.Errorf("audit: delete by %s: %w", d.GetAuthorId(), err)
	}
	author := m.user(d.GetAuthorId())
	m.tombs[tomb{author, id}] = struct{}{}
	if at, found := m.find(author, id); found {
		m.posts[author] = slices.Delete(m.posts[author], at, at+1)
	}
	return nil
}

func (m *Model) follow(follower, followee user) {
	if at, found := slices.BinarySearch(m.follows[follower], followee); !found {
		m.follows[follower] = slices.Insert(m.follows[follower], at, followee)
	}
}

func (m *Model) unfollow(follower, followee user) {
	if at, found := slices.BinarySearch(m.follows[follower], followee); found {
		m.follows[follower] = slices.Delete(m.follows[follower], at, at+1)
	}
}

func (m *Model) find(author user, id event.ID) (int, bool) {
	return slices.BinarySearchFunc(m.posts[author], id, func(p post, id event.ID) int { return cmp.Compare(p.id, id) })
}

func (m *Model) pair(actor, target string) pair { return pair{m.user(actor), m.user(target)} }

// user returns the number of a name, a new one for a new name.
func (m *Model) user(name string) user {
	u, known := m.numbers[name]
	if !known {
		u = user(len(m.names))
		m.numbers[name] = u
		m.names = append(m.names, name)
		m.follows = append(m.follows, nil)
		m.posts = append(m.posts, nil)
	}
	return u
}
