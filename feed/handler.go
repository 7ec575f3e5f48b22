package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	facts "activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// projection is what the handlers need of the store. Every method may be called
// again with the same fact, at any time, and changes nothing then.
type projection interface {
	// publish keeps a post and pushes it; again says that it may be a repeat.
	publish(ctx context.Context, photo *pb.Photo, again bool) (fanout, error)
	// remove deletes a post if it is the author's own.
	remove(ctx context.Context, author string, id event.ID) (bool, error)
	// link keeps a fact about two users.
	link(ctx context.Context, e edge) error
	// drop forgets the stored list of a home feed.
	drop(ctx context.Context, user string) error
	// see moves the read position of a home feed forward.
	see(ctx context.Context, user string, upTo event.ID) error
}

// handler turns facts into the projection, one method each.
type handler struct {
	store   projection
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time
	reports *facts.Reporter
}

// handle is the consumer of both topics. An event of a type that this version
// does not know is acked and counted.
func (h *handler) handle(msg *message.Message) error {
	e, err := event.Decode(msg)
	if errors.Is(err, event.ErrUnknownType) {
		h.metrics.ignored.WithLabelValues("unknown_type").Inc()
		h.log.Debug("skipped an event of unknown type", "event_id", msg.UUID, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	ctx := msg.Context()
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		return h.photoPosted(ctx, e, d)
	case *pb.PhotoDeleted:
		return h.photoDeleted(ctx, d)
	case *pb.UserFollowed:
		return h.follow(ctx, e.ID, d.GetFollowerId(), d.GetFolloweeId(), true)
	case *pb.UserUnfollowed:
		return h.follow(ctx, e.ID, d.GetFollowerId(), d.GetFolloweeId(), false)
	case *pb.UserBlocked:
		return h.block(ctx, e.ID, d.GetActorId(), d.GetTargetId(), true)
	case *pb.UserUnblocked:
		return h.block(ctx, e.ID, d.GetActorId(), d.GetTargetId(), false)
	case *pb.UserMuted:
		return h.mute(ctx, e.ID, d.GetActorId(), d.GetTargetId(), true)
	case *pb.UserUnmuted:
		return h.mute(ctx, e.ID, d.GetActorId(), d.GetTargetId(), false)
	case *pb.UserSawFeed:
		return h.sawFeed(ctx, d)
	}
	h.metrics.ignored.WithLabelValues("unknown_type").Inc()
	return nil
}

// photoPosted pushes a post into the feeds. A repeat is recognised by the
// delivery's number and the calls in place; one that a crash causes is not, and
// may leave an id twice in a list, which readers repair.
func (h *handler) photoPosted(ctx context.Context, e event.Event, d *pb.PhotoPosted) error {
	start := h.now()
	again := record.OriginOf(ctx).Attempt > 1 || callOf(ctx) > 1
	done, err := h.store.publish(ctx, d.GetPhoto(), again)
	if err != nil {
		return err
	}
	end := h.now()
	h.metrics.posts.Inc()
	h.metrics.fanoutSeconds.Observe(end.Sub(start).Seconds())
	h.metrics.visibleAfter.Observe(end.Sub(e.Time).Seconds())
	h.reports.Report(facts.Fanout(service, e.ID, e.Time, d.GetPhoto(), done.audience, done.delivered, end))
	h.log.Debug("pushed a post", "event_id", e.ID, "user_id", d.GetPhoto().GetAuthorId(), "feeds", done.delivered)
	return nil
}

// photoDeleted puts a tombstone. Someone else's post stays where it is.
func (h *handler) photoDeleted(ctx context.Context, d *pb.PhotoDeleted) error {
	id, err := event.ParseID(d.GetPostId())
	if err != nil {
		return fault.Poison(event.ReasonInvalid, fmt.Errorf("post_id: %w", err))
	}
	own, err := h.store.remove(ctx, d.GetAuthorId(), id)
	if err != nil {
		return err
	}
	if !own {
		h.metrics.ignored.WithLabelValues("foreign_delete").Inc()
	}
	return nil
}

// follow keeps the edge, then drops the follower's feed, in this order: see
// redisStore.drop. It does so also when nothing has changed, because the first
// try may have failed in between.
func (h *handler) follow(ctx context.Context, version event.ID, follower, followee string, set bool) error {
	e := edge{rel: following, reverse: followers, from: follower, to: followee, version: version, set: set}
	if err := h.store.link(ctx, e); err != nil {
		return err
	}
	return h.store.drop(ctx, follower)
}

// block hides the two from each other. Readers filter by it at once; the feeds
// are dropped so that their lists hold what their owners may see.
func (h *handler) block(ctx context.Context, version event.ID, actor, target string, set bool) error {
	e := edge{rel: blocks, reverse: blockedBy, from: actor, to: target, version: version, set: set}
	if err := h.store.link(ctx, e); err != nil {
		return err
	}
	if err := h.store.drop(ctx, actor); err != nil {
		return err
	}
	return h.store.drop(ctx, target)
}

// mute hides the target's posts from the actor, who alone knows of it.
func (h *handler) mute(ctx context.Context, version event.ID, actor, target string, set bool) error {
	e := edge{rel: mutes, from: actor, to: target, version: version, set: set}
	if err := h.store.link(ctx, e); err != nil {
		return err
	}
	return h.store.drop(ctx, actor)
}

// sawFeed moves the read position of a feed.
func (h *handler) sawFeed(ctx context.Context, d *pb.UserSawFeed) error {
	id, err := event.ParseID(d.GetPostId())
	if err != nil {
		return fault.Poison(event.ReasonInvalid, fmt.Errorf("post_id: %w", err))
	}
	return h.store.see(ctx, d.GetUserId(), id)
}
