package notify

import (
	"context"
	"math"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/notify/deliver"
	"activityfeed/notify/device"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100

	maxID = event.ID(math.MaxInt64)
)

// service is the NotificationService. What it answers is read from Redis for each
// call: a delete, block or mute counts from the next call on.
type service struct {
	pb.UnimplementedNotificationServiceServer

	store   *store
	hub     *hub
	cfg     Config
	metrics *metrics
	facts   *facts
	devices *device.Store
	pushes  *deliver.Deliverer
	// senders validate targets; webPushKey is what browsers subscribe with.
	senders    push.Senders
	webPushKey string
}

// ListNotifications implements pb.NotificationServiceServer.
func (s *service) ListNotifications(ctx context.Context, req *pb.ListNotificationsRequest) (*pb.ListNotificationsResponse, error) {
	v, before, size, err := s.pageOf(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListNotificationsResponse{UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}
	for _, e := range v.entries {
		if e.hidden || e.id >= before {
			continue
		}
		if len(resp.GetNotifications()) == size {
			resp.NextPageToken = pageToken(req.GetUserId(), before)
			break
		}
		resp.Notifications = append(resp.Notifications, e.message())
		before = e.id
	}
	return resp, nil
}

// pageRequest asks for a page of a user's inbox.
type pageRequest interface {
	GetUserId() string
	GetPageToken() string
	GetPageSize() int32
}

// pageOf returns the inbox of which a page is asked, the id after which that begins
// and how much it holds at most.
func (s *service) pageOf(ctx context.Context, req pageRequest) (v view, before event.ID, size int, err error) {
	if before, err = readPageToken(req.GetUserId(), req.GetPageToken()); err != nil {
		return view{}, 0, 0, err
	}
	if size = min(int(req.GetPageSize()), maxPageSize); size <= 0 {
		size = defaultPageSize
	}
	v, err = s.store.view(ctx, req.GetUserId())
	return v, before, size, err
}

// GetUnreadCount implements pb.NotificationServiceServer.
func (s *service) GetUnreadCount(ctx context.Context, req *pb.GetUnreadCountRequest) (*pb.GetUnreadCountResponse, error) {
	v, err := s.store.view(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &pb.GetUnreadCountResponse{UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}, nil
}

func parseID(field, value string) (event.ID, error) {
	id, err := event.ParseID(value)
	if err != nil {
		return 0, fault.Invalid(field, "is not the id of a notification")
	}
	return id, nil
}
