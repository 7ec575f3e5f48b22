package notify

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/livestream"
	pb "activityfeed/proto/activityfeed/v1"
)

var (
	errStopped = fault.Outage("live notifications are stopping; connect again", errors.New("shutdown"))
	errSlow    = status.Error(codes.ResourceExhausted,
		"the stream was cut off: the client does not read; connect again with after_notification_id")
)

// WatchNotifications implements pb.NotificationServiceServer. The stream ends with
// UNAVAILABLE when the server stops or the stream cannot begin in time, and with
// RESOURCE_EXHAUSTED when the client does not read. While Redis is away a stream
// that has begun stays open; what it missed comes when Redis is back.
func (s *service) WatchNotifications(
	req *pb.WatchNotificationsRequest, stream grpc.ServerStreamingServer[pb.WatchNotificationsResponse],
) error {
	var after event.ID
	if req.GetAfterNotificationId() != "" {
		id, err := parseID("after_notification_id", req.GetAfterNotificationId())
		if err != nil {
			return err
		}
		after = id
	}
	w, err := s.hub.join(req.GetUserId())
	if err != nil {
		return err
	}
	defer s.hub.leave(w)
	client := livestream.NewSender(stream, livestream.Ends{
		SlowAfter: s.cfg.SlowClient,
		Slow: func() error {
			s.metrics.slow.Inc()
			return errSlow
		},
		Stop: s.hub.stopped, Stopped: errStopped,
	}, s.hub.streams.Done)
	defer client.Close()

	ctx := stream.Context()
	// Only the first view has to come in time.
	start := time.NewTimer(s.cfg.WatchStart)
	defer start.Stop()
	var place *cursor
	for {
		select {
		case v := <-w.views:
			start.Stop()
			if place == nil {
				place = newCursor(v, after, s.cfg.InboxRows)
				s.metrics.watchers.Inc()
				defer s.metrics.watchers.Dec()
			}
			for _, r := range place.advance(v) {
				msg := &pb.WatchNotificationsResponse{Notification: r.message(), UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}
				if err := client.Send(ctx, msg); err != nil {
					return err
				}
			}
		case err := <-w.failed:
			return err
		case <-start.C:
			return fault.Outage("live notifications are not available now", context.DeadlineExceeded)
		case <-ctx.Done():
			return ctx.Err()
		case <-s.hub.stopped:
			return errStopped
		}
	}
}

// cursor tells what of an inbox a stream still has to send. Rows are not always
// added in the order of their ids, so one id is not enough: it remembers what it
// has met.
type cursor struct {
	after event.ID
	// met are the newest ids met, ascending; ids up to floor count as met.
	met   []event.ID
	floor event.ID
	limit int
}

// newCursor begins a stream at its first view: after a row that the client has,
// or, when it has none, after all that is there.
func newCursor(first view, after event.ID, inboxRows int) *cursor {
	// Twice the inbox: what was met and forgotten is older than all that an inbox
	// can still show.
	c := &cursor{after: after, limit: 2 * inboxRows}
	if after != 0 {
		return c
	}
	for _, e := range first.entries {
		c.after = max(c.after, e.id)
		c.meet(e.id)
	}
	return c
}

// advance returns the rows of a view that are new to the stream, oldest first.
func (c *cursor) advance(v view) []row {
	var rows []row
	for _, e := range slices.Backward(v.entries) {
		// A late row is new to whoever already had a newer one when it came. A
		// client that comes back may know it: better twice than never.
		due := e.id > c.after || (e.id < c.after && e.newest >= c.after)
		if c.meet(e.id) && due && !e.hidden {
			rows = append(rows, e.row)
		}
	}
	return rows
}

// meet returns whether an id was not met before.
func (c *cursor) meet(id event.ID) bool {
	i, known := slices.BinarySearch(c.met, id)
	if known || id <= c.floor {
		return false
	}
	c.met = slices.Insert(c.met, i, id)
	if over := len(c.met) - c.limit; over > 0 {
		c.floor = c.met[over-1]
		c.met = slices.Delete(c.met, 0, over)
	}
	return true
}
