package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/load/longrun"
	pb "activityfeed/proto/activityfeed/v1"
)

// Clients are the ways to the server. They may share a connection; [Dial] makes
// connections that find a restarted server again within a second.
type Clients struct {
	// Post takes posts and deletes.
	Post pb.PostServiceClient
	// Graph takes follows, blocks and mutes.
	Graph pb.GraphServiceClient
	// Feed opens home feeds; needed with Config.Warm only.
	Feed pb.FeedServiceClient
	// Settle, if not nil, returns when the feeds have what the log has. It is asked
	// before Config.Warm opens feeds: a feed opened earlier would be dropped again
	// by a follow that is still under way.
	Settle func(ctx context.Context) error
}

// againIsSafe is true of every plan: posts carry idempotency keys made of the seed,
// which the server keeps for a day, and the last command about two people decides.
const againIsSafe = "the same command with the same seed may be run again: it sends everything once more, within 24 hours posts nothing twice, and ends with the same follows, blocks and mutes"

// Run sends the plan of a config and returns what was accepted, also when it
// fails; how far it is goes to progress. It ends with an error when
// a setting is wrong, when the server refuses a command, when it is away for longer
// than Config.Patience, or when ctx ends.
func Run(ctx context.Context, cfg Config, clients Clients, progress io.Writer) (Result, error) {
	if cfg.Graph == nil {
		return Result{}, errors.New("load: a graph is required")
	}
	if err := cfg.Validate(); err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	cfg = cfg.withDefaults()
	p := newPlan(cfg)
	r := &run{cfg: cfg, clients: clients, ids: make([]event.ID, p.posts)}
	r.patience = longrun.Patience{Timeout: cfg.CallTimeout, Total: cfg.Patience, Retried: r.retries.Add}

	start := time.Now()
	r.bar = longrun.StartBar(progress, longrun.BarConfig{
		Title:    "load",
		Total:    int64(p.commands()),
		Terminal: cfg.Terminal,
		Interval: cfg.ProgressInterval,
		Note:     r.retries.Note,
	})
	err := r.all(ctx, p)
	r.bar.Stop()
	res := r.result(time.Since(start))
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil: // which command it met says nothing
		err = fmt.Errorf("stopped after %s of %s commands (%w); %s",
			longrun.Count(r.bar.Done()), longrun.Count(int64(p.commands())), context.Cause(ctx), againIsSafe)
	case errors.Is(err, longrun.ErrGaveUp):
		err = fmt.Errorf("%w; when the server is back, %s", err, againIsSafe)
	}
	return res, fmt.Errorf("load: %w", err)
}

// run is one run of a plan.
type run struct {
	cfg      Config
	clients  Clients
	patience longrun.Patience
	bar      *longrun.Bar

	// ids are the ids of the posts of the plan, 0 before they are posted. An author's
	// posts and deletes are all one worker's, who needs no lock.
	ids []event.ID

	done    [kinds]atomic.Int64
	retries longrun.Retries
}

func (r *run) all(ctx context.Context, p plan) error {
	if err := r.phase(ctx, p.follows); err != nil {
		return err
	}
	if len(p.reads) > 0 && r.clients.Settle != nil {
		if err := r.clients.Settle(ctx); err != nil {
			return fmt.Errorf("wait for the feeds: %w", err)
		}
	}
	if err := r.phase(ctx, p.reads); err != nil {
		return err
	}
	return r.phase(ctx, p.rest)
}

// phase takes every step, each key's in order. A key belongs to one worker, and
// each worker walks the whole phase for its keys: that is the order, with no queue
// in which one busy key could hold up the others.
func (r *run) phase(ctx context.Context, steps []step) error {
	workers := uint32(min(r.cfg.Workers, len(steps)))
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			for _, s := range steps {
				if s.key()%workers != w {
					continue
				}
				if err := r.step(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (r *run) step(ctx context.Context, s step) error {
	err := r.patience.Do(ctx, func(ctx context.Context) error { return r.call(ctx, s) })
	if err != nil {
		return fmt.Errorf("%s: %w", r.describe(s), err)
	}
	r.done[s.kind].Add(1)
	r.bar.Add(1)
	return nil
}

// names are the kinds of steps in messages.
var names = [kinds]string{
	kindFollow: "follow", kindUnfollow: "unfollow", kindPost: "post", kindDelete: "delete", kindBlock: "block",
	kindUnblock: "unblock", kindMute: "mute", kindUnmute: "unmute", kindRead: "read",
}

func (r *run) describe(s step) string {
	actor, target := r.cfg.Graph.Users[s.actor], r.cfg.Graph.Users[s.target]
	switch s.kind {
	case kindPost, kindDelete:
		return fmt.Sprintf("%s number %d of the plan, by %s", names[s.kind], s.post, actor)
	case kindRead:
		return "read feed of " + actor
	default:
		return fmt.Sprintf("%s %s by %s", names[s.kind], target, actor)
	}
}

func (r *run) call(ctx context.Context, s step) (err error) {
	actor, target := r.cfg.Graph.Users[s.actor], r.cfg.Graph.Users[s.target]
	switch s.kind {
	case kindFollow:
		level := notificationLevels[r.cfg.NotificationLevel]
		_, err = r.clients.Graph.Follow(ctx, &pb.FollowRequest{UserId: actor, TargetId: target, NotificationLevel: level})
	case kindUnfollow:
		_, err = r.clients.Graph.Unfollow(ctx, &pb.UnfollowRequest{UserId: actor, TargetId: target})
	case kindPost:
		err = r.post(ctx, s)
	case kindDelete:
		_, err = r.clients.Post.DeletePhoto(ctx, &pb.DeletePhotoRequest{UserId: actor, PostId: r.ids[s.post].String()})
	case kindBlock:
		_, err = r.clients.Graph.Block(ctx, &pb.BlockRequest{UserId: actor, TargetId: target})
	case kindUnblock:
		_, err = r.clients.Graph.Unblock(ctx, &pb.UnblockRequest{UserId: actor, TargetId: target})
	case kindMute:
		_, err = r.clients.Graph.Mute(ctx, &pb.MuteRequest{UserId: actor, TargetId: target})
	case kindUnmute:
		_, err = r.clients.Graph.Unmute(ctx, &pb.UnmuteRequest{UserId: actor, TargetId: target})
	case kindRead:
		_, err = r.clients.Feed.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: actor})
	default:
		err = fmt.Errorf("unknown step %d", s.kind)
	}
	return err
}

func (r *run) post(ctx context.Context, s step) error {
	req := photo(r.cfg, s.actor, s.post)
	resp, err := r.clients.Post.PostPhoto(ctx, req)
	if err != nil {
		return err
	}
	got := resp.GetPhoto()
	// A first answer to another post: the key names two plans.
	if got.GetAuthorId() != req.GetUserId() || got.GetCaption() != req.GetCaption() {
		return fmt.Errorf("key %s was used for another post, by %q: take another seed", req.GetIdempotencyKey(), got.GetAuthorId())
	}
	r.ids[s.post], err = event.ParseID(got.GetPostId())
	return err
}
