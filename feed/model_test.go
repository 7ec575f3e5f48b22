package feed

import (
	"maps"

	"google.golang.org/protobuf/proto"

	pb "activityfeed/proto/activityfeed/v1"
)

// model is the definition of ARCHITECTURE.md, in memory, over the log in its
// order.
type model struct {
	posts   map[string]string // id -> author
	deleted map[string]bool
	follows map[[2]string]bool
	blocks  map[[2]string]bool
	mutes   map[[2]string]bool
}

func newModel() *model {
	return &model{map[string]string{}, map[string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.posts), maps.Clone(m.deleted), maps.Clone(m.follows), maps.Clone(m.blocks), maps.Clone(m.mutes)}
}

func (m *model) apply(fact proto.Message) {
	switch d := fact.(type) {
	case *pb.PhotoPosted:
		m.posts[d.GetPhoto().GetPostId()] = d.GetPhoto().GetAuthorId()
	case *pb.PhotoDeleted:
		// Remembered with its author: it may come before the post.
		m.deleted[d.GetPostId()+d.GetAuthorId()] = true
	case *pb.UserFollowed:
		m.follows[[2]string{d.GetFollowerId(), d.GetFolloweeId()}] = true
	case *pb.UserUnfollowed:
		delete(m.follows, [2]string{d.GetFollowerId(), d.GetFolloweeId()})
	case *pb.UserBlocked:
		m.blocks[[2]string{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnblocked:
		delete(m.blocks, [2]string{d.GetActorId(), d.GetTargetId()})
	case *pb.UserMuted:
		m.mutes[[2]string{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnmuted:
		delete(m.mutes, [2]string{d.GetActorId(), d.GetTargetId()})
	}
}

func (m *model) list(member func(author string) bool) []string {
	ids := []string{}
	for id, author := range m.posts {
		if !m.deleted[id+author] && member(author) {
			ids = append(ids, id)
		}
	}
	return newestFirst(ids...)
}

func (m *model) blocked(a, b string) bool {
	return m.blocks[[2]string{a, b}] || m.blocks[[2]string{b, a}]
}

func (m *model) home(user string) []string {
	return m.list(func(author string) bool {
		return author == user ||
			m.follows[[2]string{user, author}] && !m.blocked(user, author) && !m.mutes[[2]string{user, author}]
	})
}

func (m *model) author(user, author string) []string {
	return m.list(func(a string) bool { return a == author && (user == author || !m.blocked(user, author)) })
}
