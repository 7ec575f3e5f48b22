package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// mostUnseen is up to how many unseen posts are counted: a badge shows "99+"
	// beyond. It bounds the cost of a count, see feed.proto.
	mostUnseen = 99
	// mostSearched is how many entries one count looks at in all. Entries of deleted
	// posts stay in a list, so that thousands of them could hide the next live one.
	mostSearched = 500
	// aheadOfClock is how far in the future a mark may lie: the clocks of two hosts
	// that accept commands differ. A mark further ahead could never be taken back,
	// since the position moves only forward, and would hide all posts until then.
	aheadOfClock = time.Minute
	// authorPrefix is how much of a body is sure to hold its author: "P", 64, ",".
	authorPrefix = 66
)

// marks writes marks to the log; it returns when the log has them.
type marks interface {
	SawFeed(ctx context.Context, user string, upTo event.ID) error
}

// positions is what the service needs of the store for read positions.
type positions interface {
	// seen returns the read position of a user, noCursor if there is none.
	seen(ctx context.Context, user string) (event.ID, error)
	// see moves it forward.
	see(ctx context.Context, user string, upTo event.ID) error
	// authors returns those of the posts that were not deleted, perhaps without their
	// photos. The ids must have been read by home for the same request.
	authors(ctx context.Context, ids []event.ID) ([]*post, error)
}

var errNoMarks = errors.New("no write side of marks")

// GetUnseenCount says what is unseen.
func (s *feedService) GetUnseenCount(ctx context.Context, req *pb.GetUnseenCountRequest) (*pb.GetUnseenCountResponse, error) {
	unseen, err := s.unseen(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &pb.GetUnseenCountResponse{Unseen: unseen}, nil
}

// MarkSeen appends a mark to the log, then takes it into the projection at once, so
// that the next read of any device knows it; the consumer does so again, which
// changes nothing. A mark that moves nothing is not written.
func (s *feedService) MarkSeen(ctx context.Context, req *pb.MarkSeenRequest) (*pb.MarkSeenResponse, error) {
	user := req.GetUserId()
	id, err := event.ParseID(req.GetPostId())
	if err != nil {
		return nil, fault.Invalid("post_id", "is not the id of a post")
	}
	if id.Time().After(s.now().Add(aheadOfClock)) {
		return nil, fault.Invalid("post_id", "is of a moment in the future")
	}
	if s.marks == nil {
		return nil, fault.Outage("marks are not taken here", errNoMarks)
	}
	seen, err := s.positions.seen(ctx, user)
	if err != nil {
		return nil, err
	}
	if id > seen {
		if err := s.marks.SawFeed(ctx, user, id); err != nil {
			return nil, err
		}
		if err := s.positions.see(ctx, user, id); err != nil {
			return nil, err
		}
	}
	unseen, err := s.unseen(ctx, user)
	if err != nil {
		return nil, err
	}
	return &pb.MarkSeenResponse{Unseen: unseen}, nil
}

// unseen counts the posts above the read position that GetHomeFeed would show, but
// for the user's own.
func (s *feedService) unseen(ctx context.Context, user string) (*pb.Unseen, error) {
	seen, err := s.positions.seen(ctx, user)
	if err != nil {
		return nil, err
	}
	u := &pb.Unseen{}
	if seen != noCursor {
		u.SeenPostId = seen.String()
	}
	cursor, searched, want := noCursor, 0, usualPage
	for searched < mostSearched {
		ids, end, err := s.store.home(ctx, user, cursor, want, nil)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			return u, nil
		}
		cursor, searched = ids[len(ids)-1], searched+len(ids)
		// Ids come newest first.
		if old := slices.IndexFunc(ids, func(id event.ID) bool { return id <= seen }); old >= 0 {
			ids, end = ids[:old], true
		}
		n, err := s.visibleOfOthers(ctx, user, ids)
		if err != nil {
			return nil, err
		}
		u.Count += int32(n)
		if u.GetCount() > mostUnseen {
			u.Count, u.More = mostUnseen, true
			return u, nil
		}
		if end {
			return u, nil
		}
		want = mostUnseen + 1
	}
	u.More = true
	return u, nil
}

// visibleOfOthers counts those of the posts that stand in a home feed and are not
// the user's own.
func (s *feedService) visibleOfOthers(ctx context.Context, user string, ids []event.ID) (int, error) {
	posts, err := s.positions.authors(ctx, ids)
	if err != nil {
		return 0, err
	}
	posts, err = s.store.inHome(ctx, user, keep(posts, func(p *post) bool { return p.author != user }))
	return len(posts), err
}

func (s *redisStore) seen(ctx context.Context, user string) (event.ID, error) {
	cmd := redis.NewStringCmd(ctx, "get", seenKey(user))
	if err := s.ask(ctx, cmd); err != nil {
		return 0, redisfault.Of(err, "read position of %s", user)
	}
	if cmd.Val() == "" {
		return noCursor, nil
	}
	id, err := event.ParseID(cmd.Val())
	if err != nil {
		return 0, fmt.Errorf("position of %s: %w", user, err)
	}
	return id, nil
}

func (s *redisStore) see(ctx context.Context, user string, upTo event.ID) error {
	cmd := seeScript.Int(ctx, []string{seenKey(user)}, upTo.String())
	return redisfault.Of(s.writes.do(ctx, cmd), "move position of %s", user)
}

// authors reads 66 bytes of each body that is not in memory.
func (s *redisStore) authors(ctx context.Context, ids []event.ID) ([]*post, error) {
	found := make([]*post, len(ids))
	if missing, _ := s.bodies.get(ids, found); len(missing) > 0 {
		read, err := s.readAuthors(ctx, missing)
		if err != nil {
			return nil, err
		}
		fill(found, ids, read)
	}
	return keep(found, func(p *post) bool { return p != nil }), nil
}

func (s *redisStore) readAuthors(ctx context.Context, ids []event.ID) ([]*post, error) {
	cmds := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		cmds[i] = redis.NewStringCmd(ctx, "getrange", postKey(id), 0, authorPrefix-1)
	}
	if err := s.ask(ctx, erased(cmds)...); err != nil {
		return nil, redisfault.Of(err, "read authors of %d posts", len(ids))
	}
	found := make([]*post, 0, len(ids))
	for i, cmd := range cmds {
		rest, body := strings.CutPrefix(cmd.Val(), bodyPrefix)
		if author, _, ok := strings.Cut(rest, ","); body && ok {
			found = append(found, &post{id: ids[i], author: author})
		}
	}
	return found, nil
}
