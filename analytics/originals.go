package analytics

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// errNoOriginal says that a row is of a post that was stored before posts were kept
// whole, or with Config.OmitPosts: its caption and pictures are not here.
var errNoOriginal = errors.New("the post was not kept")

// stored is a row of `events` on its way back to the event that it was made of.
type stored struct {
	id                    uint64
	kind                  string
	time                  time.Time
	author, actor, target string
	post                  uint64
	level, source         string
	original              []byte
}

// eventOf returns the event of a row: what rowOf was given. The client's idempotency
// key is not in a row. Posts are what they were when they were accepted; where that was
// not kept, the post has an author and an id only, and the error is errNoOriginal. It
// is event.ErrUnknownType for a type that a newer version has stored.
func eventOf(s stored) (event.Event, error) {
	data, err := factOfRow(s)
	if data == nil {
		return event.Event{}, err
	}
	return event.Event{ID: event.ID(s.id), Time: s.time, Source: s.source, Data: data}, err
}

func factOfRow(s stored) (proto.Message, error) {
	post := strconv.FormatUint(s.post, 10)
	switch s.kind {
	case "PhotoPosted":
		if len(s.original) == 0 {
			return &pb.PhotoPosted{Photo: &pb.Photo{AuthorId: s.author, PostId: post}}, errNoOriginal
		}
		d := new(pb.PhotoPosted)
		if err := proto.Unmarshal(s.original, d); err != nil {
			return nil, fmt.Errorf("post %s: %w", post, err)
		}
		return d, nil
	case "PhotoDeleted":
		return &pb.PhotoDeleted{AuthorId: s.author, PostId: post}, nil
	case "UserFollowed":
		return &pb.UserFollowed{FollowerId: s.actor, FolloweeId: s.target, NotificationLevel: levelOf(s.level)}, nil
	case "UserUnfollowed":
		return &pb.UserUnfollowed{FollowerId: s.actor, FolloweeId: s.target}, nil
	case "UserBlocked":
		return &pb.UserBlocked{ActorId: s.actor, TargetId: s.target}, nil
	case "UserUnblocked":
		return &pb.UserUnblocked{ActorId: s.actor, TargetId: s.target}, nil
	case "UserMuted":
		return &pb.UserMuted{ActorId: s.actor, TargetId: s.target}, nil
	case "UserUnmuted":
		return &pb.UserUnmuted{ActorId: s.actor, TargetId: s.target}, nil
	case "UserSawFeed":
		return &pb.UserSawFeed{UserId: s.actor, PostId: post}, nil
	}
	return nil, fmt.Errorf("%w %q", event.ErrUnknownType, s.kind)
}

// levelOf is the other way of levelName.
func levelOf(name string) pb.NotificationLevel {
	return pb.NotificationLevel(pb.NotificationLevel_value["NOTIFICATION_LEVEL_"+strings.ToUpper(name)]) // "default" is none of them: 0
}
