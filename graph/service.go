package graph

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// Page sizes of the lists, as graph.proto promises them.
const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// service is GraphService. Its requests have passed the rules of graph.proto.
type service struct {
	pb.UnimplementedGraphServiceServer

	graph *Graph
}

// Follow makes the acting user follow the target.
func (s service) Follow(ctx context.Context, req *pb.FollowRequest) (*pb.FollowResponse, error) {
	level := cmp.Or(req.GetNotificationLevel(), levels[s.graph.cfg.DefaultNotificationLevel])
	return answer(&pb.FollowResponse{}, s.graph.command(ctx, "follow", req, &pb.UserFollowed{
		FollowerId: req.GetUserId(), FolloweeId: req.GetTargetId(), NotificationLevel: level,
	}))
}

// Unfollow ends a follow.
func (s service) Unfollow(ctx context.Context, req *pb.UnfollowRequest) (*pb.UnfollowResponse, error) {
	return answer(&pb.UnfollowResponse{}, s.graph.command(ctx, "unfollow", req, &pb.UserUnfollowed{
		FollowerId: req.GetUserId(), FolloweeId: req.GetTargetId(),
	}))
}

// Block hides the two users from each other.
func (s service) Block(ctx context.Context, req *pb.BlockRequest) (*pb.BlockResponse, error) {
	return answer(&pb.BlockResponse{}, s.graph.command(ctx, "block", req, &pb.UserBlocked{
		ActorId: req.GetUserId(), TargetId: req.GetTargetId(),
	}))
}

// Unblock lifts the acting user's own block.
func (s service) Unblock(ctx context.Context, req *pb.UnblockRequest) (*pb.UnblockResponse, error) {
	return answer(&pb.UnblockResponse{}, s.graph.command(ctx, "unblock", req, &pb.UserUnblocked{
		ActorId: req.GetUserId(), TargetId: req.GetTargetId(),
	}))
}

// Mute hides the target's posts from the acting user.
func (s service) Mute(ctx context.Context, req *pb.MuteRequest) (*pb.MuteResponse, error) {
	return answer(&pb.MuteResponse{}, s.graph.command(ctx, "mute", req, &pb.UserMuted{
		ActorId: req.GetUserId(), TargetId: req.GetTargetId(),
	}))
}

// Unmute shows the target's posts again.
func (s service) Unmute(ctx context.Context, req *pb.UnmuteRequest) (*pb.UnmuteResponse, error) {
	return answer(&pb.UnmuteResponse{}, s.graph.command(ctx, "unmute", req, &pb.UserUnmuted{
		ActorId: req.GetUserId(), TargetId: req.GetTargetId(),
	}))
}

// ListFollowers pages through the users who follow one user.
func (s service) ListFollowers(ctx context.Context, req *pb.ListFollowersRequest) (*pb.ListFollowersResponse, error) {
	var page func(context.Context, string, int, string) ([]string, string, error)
	if f := s.graph.deps.Follows; f != nil {
		page = f.Followers
	}
	ids, next, err := s.graph.list(ctx, page, req)
	if err != nil {
		return nil, fmt.Errorf("list followers of %s: %w", req.GetUserId(), err)
	}
	return &pb.ListFollowersResponse{FollowerIds: ids, NextPageToken: next}, nil
}

// ListFollowing pages through the users whom one user follows.
func (s service) ListFollowing(ctx context.Context, req *pb.ListFollowingRequest) (*pb.ListFollowingResponse, error) {
	var page func(context.Context, string, int, string) ([]string, string, error)
	if f := s.graph.deps.Follows; f != nil {
		page = f.Following
	}
	ids, next, err := s.graph.list(ctx, page, req)
	if err != nil {
		return nil, fmt.Errorf("list users whom %s follows: %w", req.GetUserId(), err)
	}
	return &pb.ListFollowingResponse{FolloweeIds: ids, NextPageToken: next}, nil
}

func answer[T any](resp T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return resp, nil
}

// command appends the fact of a request about two users. A caller who hangs up does
// not end it: half a publish would leave everybody in doubt about its outcome.
func (g *Graph) command(ctx context.Context, name string, req interface {
	GetUserId() string
	GetTargetId() string
}, fact proto.Message,
) error {
	if req.GetUserId() == req.GetTargetId() {
		return fault.Invalid("target_id", "must name another user than user_id")
	}
	id := g.deps.IDs.Next()
	msg, err := event.Encode(event.Event{ID: id, Time: id.Time(), Source: g.deps.Source, Data: fact})
	if err != nil {
		return requestFault(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.PublishTimeout)
	defer cancel()
	err = g.deps.Publisher.PublishContext(ctx, event.Topic, msg)
	if err != nil && fault.KindOf(err) != fault.Permanent {
		err = fault.Outage("the log did not accept the "+name, err)
	}
	if err != nil {
		return fmt.Errorf("%s %s by %s: %w", name, req.GetTargetId(), req.GetUserId(), err)
	}
	return nil
}

// requestFault names the field of the request, where err names that of the fact.
func requestFault(err error) error {
	f := fault.Of(err)
	if f == nil || f.Kind != fault.InvalidArgument {
		return err
	}
	field := f.Field
	switch field {
	case "follower_id", "actor_id":
		field = "user_id"
	case "followee_id":
		field = "target_id"
	}
	return fault.Invalid(field, "%s", f.Message)
}

var errNoStore = errors.New("no store of follows")

// list reads one page.
func (g *Graph) list(ctx context.Context, page func(context.Context, string, int, string) ([]string, string, error), req interface {
	GetUserId() string
	GetPageSize() int32
	GetPageToken() string
},
) (ids []string, next string, err error) {
	if page == nil {
		return nil, "", fault.Outage("lists of followers are not served here", errNoStore)
	}
	size := int(req.GetPageSize())
	if size <= 0 {
		size = defaultPageSize
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.ListTimeout)
	defer cancel()
	return page(ctx, req.GetUserId(), min(size, maxPageSize), req.GetPageToken())
}
