package post

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// service is PostService. Its requests have passed the rules of post.proto.
type service struct {
	pb.UnimplementedPostServiceServer

	post *Post
}

// PostPhoto publishes a photo, or gives the first answer to a repeated command.
func (s service) PostPhoto(ctx context.Context, req *pb.PostPhotoRequest) (*pb.PostPhotoResponse, error) {
	var (
		post event.ID
		err  error
	)
	if req.GetIdempotencyKey() == "" {
		a := s.post.newAttempt()
		post, err = a.post, s.post.publishPhoto(ctx, a, req)
	} else {
		post, err = s.post.once(ctx, req)
	}
	if err != nil {
		return nil, fmt.Errorf("post photo of %s: %w", req.GetUserId(), err)
	}
	return &pb.PostPhotoResponse{Photo: photoOf(post, req)}, nil
}

// DeletePhoto takes a photo back.
func (s service) DeletePhoto(ctx context.Context, req *pb.DeletePhotoRequest) (*pb.DeletePhotoResponse, error) {
	id := s.post.deps.IDs.Next()
	err := s.post.publish(ctx, event.Event{
		ID:   id,
		Time: id.Time(),
		Data: &pb.PhotoDeleted{AuthorId: req.GetUserId(), PostId: req.GetPostId()},
	})
	if err != nil {
		return nil, fmt.Errorf("delete photo %s of %s: %w", req.GetPostId(), req.GetUserId(), err)
	}
	return &pb.DeletePhotoResponse{}, nil
}

// photoOf returns the photo that a command makes. It depends on nothing but its
// arguments, so a repeated command gets the first answer again.
func photoOf(post event.ID, req *pb.PostPhotoRequest) *pb.Photo {
	return &pb.Photo{
		PostId:     post.String(),
		AuthorId:   req.GetUserId(),
		Media:      req.GetMedia(),
		Caption:    req.GetCaption(),
		Mentions:   req.GetMentions(),
		CreateTime: timestamppb.New(post.Time()),
	}
}

func (p *Post) publishPhoto(ctx context.Context, a attempt, req *pb.PostPhotoRequest) error {
	return p.publish(ctx, event.Event{
		ID:             a.event,
		Time:           a.post.Time(),
		IdempotencyKey: req.GetIdempotencyKey(),
		Data:           &pb.PhotoPosted{Photo: photoOf(a.post, req)},
	})
}

// publish returns when the log has the event. A caller who hangs up does not end
// it: half a publish would leave everybody in doubt about its outcome.
func (p *Post) publish(ctx context.Context, e event.Event) error {
	e.Source = p.deps.Source
	msg, err := event.Encode(e)
	if err != nil {
		return requestFault(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.PublishTimeout)
	defer cancel()
	err = p.deps.Publisher.PublishContext(ctx, event.Topic, msg)
	if err == nil || fault.KindOf(err) == fault.Permanent {
		return err
	}
	return fault.Outage("the log did not accept the "+factName(e.Data), err)
}

func factName(data proto.Message) string {
	if _, ok := data.(*pb.PhotoPosted); ok {
		return "photo"
	}
	return "deletion"
}

// requestFault names the field of the request, where err names that of the fact.
func requestFault(err error) error {
	f := fault.Of(err)
	if f == nil || f.Kind != fault.InvalidArgument {
		return err
	}
	field := strings.TrimPrefix(f.Field, "photo.")
	if field == "author_id" {
		field = "user_id"
	}
	return fault.Invalid(field, "%s", f.Message)
}
