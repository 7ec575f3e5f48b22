package notify

import (
	"context"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// maxSamples is how many actors of a group are named.
const maxSamples = 8

// groupKey names what is told in one line: the posts of one author on one day, the
// follows of one day (UTC). A mention stands alone: each is about something else.
func groupKey(r row) string {
	day := r.id.Time().Format("2006-01-02")
	switch r.kind {
	case pb.NotificationType_NOTIFICATION_TYPE_POST:
		return "post:" + r.actor + ":" + day
	case pb.NotificationType_NOTIFICATION_TYPE_FOLLOW:
		return "follow:" + day
	default:
		return r.id.String()
	}
}

// ListGroupedNotifications implements pb.NotificationServiceServer. The groups are
// made at read: of the rows that are shown then, so a delete or a block changes
// them at once.
func (s *service) ListGroupedNotifications(
	ctx context.Context, req *pb.ListGroupedNotificationsRequest,
) (*pb.ListGroupedNotificationsResponse, error) {
	v, before, size, err := s.pageOf(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListGroupedNotificationsResponse{UnreadCount: int32(v.unread), UnseenCount: int32(v.unseen)}
	for _, g := range groupsOf(v.entries) {
		newest, err := parseID("newest", g.GetNewest().GetNotificationId())
		if err != nil || newest >= before {
			continue
		}
		if len(resp.GetGroups()) == size {
			resp.NextPageToken = pageToken(req.GetUserId(), before)
			break
		}
		resp.Groups = append(resp.Groups, g)
		before = newest
	}
	return resp, nil
}

// groupsOf puts the rows that are shown together, by the newest of each group.
func groupsOf(entries []entry) []*pb.NotificationGroup {
	var groups []*pb.NotificationGroup
	byKey := make(map[string]*pb.NotificationGroup)
	actors := make(map[string]map[string]bool)
	for _, e := range entries { // newest first
		if e.hidden {
			continue
		}
		key := groupKey(e.row)
		g := byKey[key]
		if g == nil {
			g = &pb.NotificationGroup{GroupKey: key, Type: e.kind, Newest: e.message()}
			byKey[key], actors[key] = g, make(map[string]bool)
			groups = append(groups, g)
		}
		g.NotificationCount++
		g.OldestNotificationId = e.id.String()
		if !e.read {
			g.UnreadCount++
		}
		if !actors[key][e.actor] {
			actors[key][e.actor] = true
			g.ActorCount++
			if len(g.GetSampleActorIds()) < maxSamples {
				g.SampleActorIds = append(g.SampleActorIds, e.actor)
			}
		}
	}
	return groups
}

// groupWith returns the rows of the group of a row, up to that row: what joined
// since the group was shown is not meant.
func groupWith(entries []entry, newest event.ID) []event.ID {
	key := ""
	for _, e := range entries {
		if e.id == newest {
			key = groupKey(e.row)
		}
	}
	var ids []event.ID
	for _, e := range entries {
		if key != "" && e.id <= newest && groupKey(e.row) == key {
			ids = append(ids, e.id)
		}
	}
	return ids
}
