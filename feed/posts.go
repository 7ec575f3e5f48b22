package feed

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

// The value of a post's key is "P", the author, ",", the marshaled pb.Photo; or a
// tombstone: "T,", then each author whose delete it stands for, with "," behind.
// So the scripts can tell whose it is, and a reader need not unmarshal what is
// hidden. User ids hold no comma.
const bodyPrefix = "P"

// post is a body as it is kept.
type post struct {
	id     event.ID
	author string
	photo  string // the marshaled pb.Photo
}

func encodePost(photo *pb.Photo) ([]byte, error) {
	value := make([]byte, 0, len(bodyPrefix)+len(photo.GetAuthorId())+1+proto.Size(photo))
	value = append(value, bodyPrefix...)
	value = append(value, photo.GetAuthorId()...)
	value = append(value, ',')
	return proto.MarshalOptions{}.MarshalAppend(value, photo)
}

// parsePost returns false for a tombstone.
func parsePost(id event.ID, value string) (post, bool) {
	rest, body := strings.CutPrefix(value, bodyPrefix)
	author, photo, ok := strings.Cut(rest, ",")
	return post{id: id, author: author, photo: photo}, body && ok
}

// unmarshal returns the photo as readers get it.
func (p post) unmarshal() (*pb.Photo, error) {
	photo := new(pb.Photo)
	if err := proto.Unmarshal([]byte(p.photo), photo); err != nil {
		return nil, fmt.Errorf("body of post %s: %w", p.id, err)
	}
	return photo, nil
}

// posts returns the bodies of the ids that have one, in their order. Deleted
// posts are left out, missing ones too, but they are counted: a body is written
// before its id, so a missing one was lost or is yet being written.
func (s *redisStore) posts(ctx context.Context, ids []event.ID) ([]post, error) {
	cmds := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		cmds[i] = redis.NewStringCmd(ctx, "get", postKey(id))
	}
	if err := s.exec(ctx, erased(cmds)); err != nil {
		return nil, redisfault.Of(err, "read %d posts", len(ids))
	}
	found := make([]post, 0, len(ids))
	for i, cmd := range cmds {
		value := cmd.Val()
		if value == "" {
			s.metrics.hydrateMisses.Inc()
			continue
		}
		if p, ok := parsePost(ids[i], value); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// remove puts a tombstone in the place of a post and takes it out of its author's
// list. Home feeds keep the id: readers drop it. It returns false if the post is
// another author's, and does nothing then.
func (s *redisStore) remove(ctx context.Context, author string, id event.ID) (bool, error) {
	cmd := deleteScript.integer(ctx, []string{postKey(id)}, author, s.cfg.TombstoneTTL.Milliseconds())
	if err := s.writes.do(ctx, cmd); err != nil {
		return false, redisfault.Of(err, "delete post %s", id)
	}
	if cmd.Val() == 0 {
		return false, nil
	}
	return true, s.unlist(ctx, author, id)
}

func (s *redisStore) unlist(ctx context.Context, author string, id event.ID) error {
	// 1: the list holds each id once, and the newest are deleted most.
	cmd := redis.NewIntCmd(ctx, "lrem", authorKey(author), 1, id.String())
	return redisfault.Of(s.writes.do(ctx, cmd), "take post %s from the list of %s", id, author)
}
