package notify

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/notify/deliver"
	"activityfeed/notify/device"
	pb "activityfeed/proto/activityfeed/v1"
)

// pushes is what the handler needs of notify/deliver.
type pushes interface {
	// Tell schedules that users are told of a row by push.
	Tell(ctx context.Context, r deliver.Row, users []string) error
	// Replay schedules a push again that was given up.
	Replay(ctx context.Context, body []byte) error
}

// handler turns events into the projection, one method per event. Each is
// idempotent: the event may come again, in part or whole, at any time.
type handler struct {
	store   *store
	now     func() time.Time
	metrics *metrics
	// pushes tells devices, and devices keeps them.
	pushes  pushes
	devices *device.Store
	reports *delivery.Reporter
}

// handle processes one message of the log.
func (h *handler) handle(msg *message.Message) error {
	if isPushLetter(msg) {
		return h.pushes.Replay(msg.Context(), msg.Payload)
	}
	e, err := event.Decode(msg)
	if errors.Is(err, event.ErrUnknownType) {
		h.skip(skippedUnknown)
		return nil
	}
	if err != nil {
		return err
	}
	ctx := msg.Context()
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		return h.photoPosted(ctx, e, d.GetPhoto())
	case *pb.PhotoDeleted:
		return h.photoDeleted(ctx, d)
	case *pb.UserFollowed:
		return h.userFollowed(ctx, e.ID, d)
	case *pb.UserUnfollowed:
		_, err := h.store.follow(ctx, d.GetFollowerId(), d.GetFolloweeId(), e.ID, followEnds, false)
		return err
	case *pb.UserBlocked:
		return h.store.block(ctx, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnblocked:
		return h.store.block(ctx, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.UserMuted:
		return h.store.mute(ctx, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnmuted:
		return h.store.mute(ctx, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.DeviceRegistered, *pb.DeviceRemoved, *pb.PreferencesSet, *pb.InboxMarked:
		return h.account(ctx, e)
	}
	// A fact that others care about.
	h.skip(skippedUnknown)
	return nil
}

// photoPosted tells the mentioned users and the author's subscribers.
func (h *handler) photoPosted(ctx context.Context, e event.Event, photo *pb.Photo) error {
	begin, id := h.now(), e.ID
	author := photo.GetAuthorId()
	post, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return fault.Poison(event.ReasonInvalid, err)
	}
	if h.expired(id) {
		return nil
	}
	audience, err := h.store.audience(ctx, author, post, id)
	if err != nil {
		return err
	}
	if audience.deleted {
		h.skip(skippedDeleted)
		return nil
	}
	r := row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_MENTION, actor: author, post: post}
	// Mentions go first: the row of a subscriber who is mentioned is there already
	// when the subscribers' turn comes, and stays.
	asked := len(photo.GetMentions())
	written, err := h.tell(ctx, r, slices.Clone(photo.GetMentions()), audience.hiding)
	if err != nil {
		return err
	}
	r.kind = pb.NotificationType_NOTIFICATION_TYPE_POST
	for users, err := range audience.subscribers {
		if err != nil {
			return err
		}
		asked += len(users)
		told, err := h.tell(ctx, r, users, audience.hiding)
		if err != nil {
			return err
		}
		written += told
	}
	end := h.now()
	h.metrics.fanout.Observe(end.Sub(begin).Seconds())
	h.reports.Report(delivery.Fanout(serviceName, id, e.Time, photo, asked, written, end))
	return nil
}

// photoDeleted hides the rows about a post at the next read. It writes no row, so
// it costs the same however many were told.
func (h *handler) photoDeleted(ctx context.Context, d *pb.PhotoDeleted) error {
	post, err := event.ParseID(d.GetPostId())
	if err != nil {
		return fault.Poison(event.ReasonInvalid, err)
	}
	return h.store.deletePost(ctx, d.GetAuthorId(), post)
}

// userFollowed tells the followee of a new follower, and not of a change of level.
// Who follows, unfollows and follows again is one follower: one row.
func (h *handler) userFollowed(ctx context.Context, id event.ID, d *pb.UserFollowed) error {
	level := followNone
	if wantsEvery(d.GetNotificationLevel()) {
		level = followAll
	}
	r := row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_FOLLOW, actor: d.GetFollowerId()}
	told, err := h.store.follow(ctx, d.GetFollowerId(), d.GetFolloweeId(), id, level, !h.expired(id))
	if err != nil {
		return err
	}
	if told.hidden() {
		h.metrics.hidden.Inc()
	}
	if told.added() {
		h.metrics.rows.WithLabelValues(kindLabel(r.kind)).Inc()
	}
	if !told.reachable() {
		return nil
	}
	return h.pushRow(ctx, r, []string{d.GetFolloweeId()})
}

// wantsEvery says whether a follower is told of every post. A fact that does not say
// comes from another producer, or from an older log, and asks for nothing: its posts are
// in the feed.
func wantsEvery(level pb.NotificationLevel) bool {
	return level == pb.NotificationLevel_NOTIFICATION_LEVEL_ALL
}

// tell adds a row to the inboxes of users, except the actor's own and those of
// users who do not hear of the actor. hiding says that there may be such users. It
// returns how many rows are new.
func (h *handler) tell(ctx context.Context, r row, users []string, hiding bool) (int, error) {
	users = slices.DeleteFunc(users, func(user string) bool { return user == r.actor })
	if hiding {
		told, err := h.store.heardBy(ctx, r.actor, users)
		if err != nil {
			return 0, err
		}
		h.metrics.hidden.Add(float64(len(users) - len(told)))
		users = told
	}
	added, reachable, err := h.store.insert(ctx, r, users)
	h.metrics.rows.WithLabelValues(kindLabel(r.kind)).Add(float64(added))
	if err != nil || len(reachable) == 0 {
		return added, err
	}
	return added, h.pushRow(ctx, r, reachable)
}

func (h *handler) pushRow(ctx context.Context, r row, users []string) error {
	return h.pushes.Tell(ctx, deliver.Row{ID: r.id, Kind: r.kind, Actor: r.actor, Post: r.post}, users)
}

// expired says, and counts, that an event is too old to be told: a rebuild from a
// long log goes over it quickly.
func (h *handler) expired(id event.ID) bool {
	if id >= h.store.horizon() {
		return false
	}
	h.skip(skippedExpired)
	return true
}

func (h *handler) skip(reason string) { h.metrics.skipped.WithLabelValues(reason).Inc() }
