package notify

import (
	"context"
	"slices"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// MarkRead implements pb.NotificationServiceServer. To mark what is not there, or
// not any more, succeeds: it is not unread.
func (s *service) MarkRead(ctx context.Context, req *pb.MarkReadRequest) (*pb.MarkReadResponse, error) {
	m, err := s.toRead(ctx, req)
	if err != nil {
		return nil, err
	}
	v, err := s.marks(ctx, req.GetUserId(), m, req.GetDeviceId())
	if err != nil {
		return nil, err
	}
	return &pb.MarkReadResponse{UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}, nil
}

func (s *service) toRead(ctx context.Context, req *pb.MarkReadRequest) (m marks, err error) {
	m.read = true
	switch what := req.GetWhat().(type) {
	case *pb.MarkReadRequest_NotificationId:
		var id event.ID
		id, err = parseID("notification_id", what.NotificationId)
		m.also = []event.ID{id}
	case *pb.MarkReadRequest_UpToNotificationId:
		m.upTo, err = parseID("up_to_notification_id", what.UpToNotificationId)
	case *pb.MarkReadRequest_GroupNewestId:
		var id event.ID
		if id, err = parseID("group_newest_id", what.GroupNewestId); err != nil {
			return m, err
		}
		var v view
		v, err = s.store.view(ctx, req.GetUserId())
		m.also = groupWith(v.entries, id)
	default:
		err = fault.Invalid("what", "must name one notification or the newest of several")
	}
	return m, err
}

// MarkNotificationsSeen implements pb.NotificationServiceServer.
func (s *service) MarkNotificationsSeen(
	ctx context.Context, req *pb.MarkNotificationsSeenRequest,
) (*pb.MarkNotificationsSeenResponse, error) {
	m := marks{upTo: maxID}
	if req.GetUpToNotificationId() != "" {
		var err error
		if m.upTo, err = parseID("up_to_notification_id", req.GetUpToNotificationId()); err != nil {
			return nil, err
		}
	}
	v, err := s.marks(ctx, req.GetUserId(), m, "")
	if err != nil {
		return nil, err
	}
	return &pb.MarkNotificationsSeenResponse{UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}, nil
}

// marks marks rows, writes what is marked now to the log, and has the badge of the
// user's other devices corrected. It answers with the inbox after it.
//
// Redis comes before the log here: a mark is about rows that only the inbox knows,
// and the fact says what of it is marked now. Who is told of a failure marks again.
func (s *service) marks(ctx context.Context, user string, m marks, deviceID string) (view, error) {
	id := s.facts.next()
	changed, devices, err := s.store.mark(ctx, user, m, id)
	if err != nil {
		return view{}, err
	}
	v, err := s.store.view(ctx, user)
	if err != nil || !changed {
		return v, err
	}
	if err := s.facts.write(ctx, id, marked(user, v)); err != nil {
		return view{}, err
	}
	if m.read && devices {
		return v, s.pushes.Badge(ctx, user, deviceID)
	}
	return v, nil
}

// marked returns the fact that says what of an inbox is marked.
func marked(user string, v view) *pb.InboxMarked {
	fact := &pb.InboxMarked{UserId: user}
	// From the oldest on: all are read up to the first that is not.
	unbroken, seen := event.ID(0), event.ID(0)
	broken := false
	for _, e := range slices.Backward(v.entries) {
		if e.seen {
			seen = e.id
		}
		switch {
		case !e.read:
			broken = true
		case !broken:
			unbroken = e.id
		default:
			fact.AlsoRead = append(fact.AlsoRead, e.id.String())
		}
	}
	if unbroken != 0 {
		fact.ReadUpTo = unbroken.String()
	}
	if seen != 0 {
		fact.SeenUpTo = seen.String()
	}
	return fact
}

// restoreMarks restores marks that Redis has lost; with again also those that it
// knows, for rows that it has lost.
func (h *handler) restoreMarks(ctx context.Context, version event.ID, d *pb.InboxMarked, again bool) error {
	var ids []event.ID
	for _, text := range append([]string{d.GetReadUpTo(), d.GetSeenUpTo()}, d.GetAlsoRead()...) {
		id, err := event.ID(0), error(nil)
		if text != "" {
			id, err = event.ParseID(text)
		}
		if err != nil {
			return fault.Poison(event.ReasonInvalid, err)
		}
		ids = append(ids, id)
	}
	return h.store.restore(ctx, d.GetUserId(), ids[0], ids[1], ids[2:], version, again)
}
