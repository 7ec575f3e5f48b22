package notify

import (
	"context"
	"unique"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

type (
	// hidingKey is a block or a mute of one user by another.
	hidingKey struct {
		mute          bool
		actor, target name
	}
	// change is the beginning of one, or its end.
	change struct {
		id event.ID
		on bool
	}
	deletedPost struct {
		author name
		post   event.ID
	}
)

// Hide remembers a block, a mute or a delete.
func (r *Restore) Hide(e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.UserBlocked:
		r.hide(false, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnblocked:
		r.hide(false, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.UserMuted:
		r.hide(true, d.GetActorId(), d.GetTargetId(), e.ID, true)
	case *pb.UserUnmuted:
		r.hide(true, d.GetActorId(), d.GetTargetId(), e.ID, false)
	case *pb.PhotoDeleted:
		post, err := event.ParseID(d.GetPostId())
		if err != nil {
			return fault.Poison(event.ReasonInvalid, err)
		}
		// A row about it is older than the delete.
		if e.ID >= r.n.handler.store.horizon() {
			r.deleted[deletedPost{unique.Make(d.GetAuthorId()), post}] = struct{}{}
		}
	}
	return nil
}

func (r *Restore) hide(mute bool, actor, target string, id event.ID, on bool) {
	if !r.concerns(actor) && !r.concerns(target) {
		return
	}
	key := hidingKey{mute, unique.Make(actor), unique.Make(target)}
	changes := r.hidings[key]
	if len(changes) > 0 && changes[len(changes)-1].id > overrules(id) {
		return // as lua/edge.lua
	}
	r.hidings[key] = append(changes, change{id, on})
}

// SettleHidden writes what Hide remembers, as it is in the end.
func (r *Restore) SettleHidden(ctx context.Context) error {
	g, ctx := r.workers(ctx)
	s := r.n.handler.store
	for key, changes := range r.hidings {
		actor, target, last := key.actor.Value(), key.target.Value(), changes[len(changes)-1]
		r.counts.edges.Add(1)
		g.Go(func() error {
			return r.write(ctx, 2, func() error {
				if key.mute {
					return s.mute(ctx, actor, target, last.id, last.on)
				}
				return s.block(ctx, actor, target, last.id, last.on)
			})
		})
	}
	for d := range r.deleted {
		r.counts.deletes.Add(1)
		g.Go(func() error {
			return r.write(ctx, 3, func() error { return s.deletePost(ctx, d.author.Value(), d.post) })
		})
	}
	return g.Wait()
}

// hidden says whether a user did not hear of an actor at the time of an event.
func (r *Restore) hidden(user, actor string, id event.ID) bool {
	if len(r.hidings) == 0 {
		return false
	}
	u, a := unique.Make(user), unique.Make(actor)
	for _, key := range []hidingKey{{false, u, a}, {false, a, u}, {true, u, a}} {
		on := false
		for _, c := range r.hidings[key] {
			if c.id < id {
				on = c.on
			}
		}
		if on {
			return true
		}
	}
	return false
}
