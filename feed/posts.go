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
	// body is the marshaled pb.Photo, photo what it says, once it is decoded: either
	// goes to readers. The photo is shared: nobody may change it.
	body  string
	photo *pb.Photo
}

// weight is about what a decoded post takes in memory, in bytes.
func (p *post) weight() int { return bodyWeight + 2*len(p.body) }

func encodePost(photo *pb.Photo) ([]byte, error) {
	value := make([]byte, 0, len(bodyPrefix)+len(photo.GetAuthorId())+1+proto.Size(photo))
	value = append(value, bodyPrefix...)
	value = append(value, photo.GetAuthorId()...)
	value = append(value, ',')
	return proto.MarshalOptions{}.MarshalAppend(value, photo)
}

// parsePost returns false for a tombstone.
func parsePost(id event.ID, value string) (*post, bool) {
	rest, body := strings.CutPrefix(value, bodyPrefix)
	author, bytes, ok := strings.Cut(rest, ",")
	return &post{id: id, author: author, body: bytes}, body && ok
}

// decode gives the post its photo.
func (p *post) decode() error {
	p.photo = new(pb.Photo)
	if err := proto.Unmarshal([]byte(p.body), p.photo); err != nil {
		return fmt.Errorf("body of post %s: %w", p.id, err)
	}
	p.author = p.photo.GetAuthorId()
	return nil
}

// posts returns the posts that have a body, in the order of their ids. Deleted
// posts are left out, missing ones too; all says that there are none of the latter. The
// ids must have been read from Redis by [redisStore.ask], or askTracked, after the
// request came: these tell what was deleted before, of posts whose bodies are in memory.
func (s *redisStore) posts(ctx context.Context, ids []event.ID) (posts []*post, all bool, err error) {
	found := make([]*post, len(ids))
	unknown, learnt := s.bodies.get(ids, found)
	all = true
	if len(unknown) > 0 {
		var read []*post
		if read, all, err = s.readPosts(ctx, unknown); err != nil {
			return nil, false, err
		}
		s.bodies.put(read, learnt)
		fill(found, ids, read)
	}
	return keep(found, func(p *post) bool { return p != nil }), all, nil
}

// fill puts posts into the places of their ids; they come in the order of the ids.
func fill(found []*post, ids []event.ID, posts []*post) {
	for i, at := 0, 0; at < len(posts); i++ {
		if ids[i] == posts[at].id {
			found[i], at = posts[at], at+1
		}
	}
}

// readPosts returns the posts that have a body, in the order of their ids. all says
// that the others are deleted; missing ones are counted: a body is written before its
// id, so it was lost or is yet being written.
func (s *redisStore) readPosts(ctx context.Context, ids []event.ID) (posts []*post, all bool, err error) {
	cmds := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		cmds[i] = redis.NewStringCmd(ctx, "get", postKey(id))
	}
	if err := s.ask(ctx, erased(cmds)...); err != nil {
		return nil, false, redisfault.Of(err, "read %d posts", len(ids))
	}
	all = true
	found := make([]*post, 0, len(ids))
	for i, cmd := range cmds {
		value := cmd.Val()
		if value == "" {
			s.metrics.hydrateMisses.Inc()
			all = false
			continue
		}
		if p, ok := parsePost(ids[i], value); ok {
			if err := p.decode(); err != nil {
				return nil, false, err
			}
			found = append(found, p)
		}
	}
	return found, all, nil
}

// remove puts a tombstone in the place of a post, tells it to the readers who have
// the body in memory, and takes it out of its author's list. Home feeds keep the
// id: readers drop it. It returns false if the post is
// another author's, and does nothing then.
func (s *redisStore) remove(ctx context.Context, author string, id event.ID) (bool, error) {
	cmd := deleteScript.Int(ctx, []string{postKey(id)}, author, s.cfg.TombstoneTTL.Milliseconds())
	if err := s.writes.do(ctx, cmd); err != nil {
		return false, redisfault.Of(err, "delete post %s", id)
	}
	if cmd.Val() == 0 {
		return false, nil
	}
	news := redis.NewStringCmd(ctx, "xadd", newsKey, "maxlen", "~", newsKept, "*", newsField, id.String())
	if err := s.writes.do(ctx, news); err != nil {
		return false, redisfault.Of(err, "tell the delete of post %s", id)
	}
	return true, s.unlist(ctx, author, id)
}

func (s *redisStore) unlist(ctx context.Context, author string, id event.ID) error {
	// 1: the list holds each id once, and the newest are deleted most.
	cmd := redis.NewIntCmd(ctx, "lrem", authorKey(author), 1, id.String())
	return redisfault.Of(s.writes.do(ctx, cmd), "take post %s from the list of %s", id, author)
}
