package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"

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

// Run sends the plan of a config and returns what was accepted, also when it
// fails. Progress and the result, as a table, go to out. It ends with an error when
// a setting is wrong, when the server refuses a command, when it is away for longer
// than Config.Patience, or when ctx ends.
func Run(ctx context.Context, cfg Config, clients Clients, out io.Writer) (Result, error) {
	if cfg.Graph == nil {
		return Result{}, errors.New("load: a graph is required")
	}
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	cfg = cfg.withDefaults()
	p := newPlan(cfg)
	r := &run{cfg: cfg, clients: clients, ids: make([]event.ID, p.posts)}
	r.patience = longrun.Patience{Timeout: cfg.CallTimeout, Total: cfg.Patience, Retried: r.retried}

	start := time.Now()
	r.bar = longrun.StartBar(out, longrun.BarConfig{
		Title:    "load",
		Total:    int64(len(p.follows) + len(p.reads) + len(p.rest)),
		Terminal: cfg.Terminal,
		Interval: cfg.ProgressInterval,
		Note:     r.note,
	})
	err := r.all(ctx, p)
	r.bar.Stop()
	res := r.result(time.Since(start))
	if err != nil {
		err = fmt.Errorf("load: %w", err)
	}
	return res, writeTable(out, res, err)
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
	retries atomic.Int64
	// away is the code of the last passing failure, for the progress line.
	away atomic.Pointer[string]
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
		err = fmt.Errorf("load: unknown step %d", s.kind)
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

func (r *run) retried(err error) {
	code := status.Code(err).String()
	r.away.Store(&code) // before the count: who sees a retry finds its code
	r.retries.Add(1)
}

func (r *run) note() string {
	n := r.retries.Load()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s retries, the last for %s", longrun.Count(n), *r.away.Load())
}
