package feed

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"activityfeed/internal/event"
	"activityfeed/internal/livestream"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// mostBacklog is how many posts a stream sends before it is live: who was away
	// for longer reads the feed, newest first.
	mostBacklog = 1000
	// backlogPart is how many bodies are read at once.
	backlogPart = 100
)

var (
	errWatchSlow = status.Error(codes.ResourceExhausted,
		"the stream was cut off: the client does not read; connect again with the cursor of the last message")
	errWatchFar = status.Error(codes.OutOfRange,
		"too many posts after the cursor; read the home feed and watch from its watch_cursor")
)

// WatchFeed streams what happens in a home feed.
//
// The seam between what was and what comes: first the stream joins the hub, which
// from then on keeps news for it; then it reads what is in Redis. What the consumers
// had not written to Redis when the stream joined is among the recent facts that join
// returns. So each post is in one of the three at least, and the place, which the
// cursor carries over a reconnect, tells what is in several.
func (s *feedService) WatchFeed(req *pb.WatchFeedRequest, stream grpc.ServerStreamingServer[pb.WatchFeedResponse]) error {
	list := cursorOf(req.GetUserId())
	at, err := parsePlace(list, req.GetCursor())
	if err != nil {
		return err
	}
	starting, started := context.WithTimeout(stream.Context(), s.cfg.WatchStart)
	defer started()
	w, late, err := s.hub.join(starting, req.GetUserId(), s.cfg.WatchQueue)
	if err != nil {
		return err
	}
	defer s.hub.leave(w)
	out := livestream.NewSender(stream, livestream.Ends{
		SlowAfter: s.cfg.SlowClient,
		Slow: func() error {
			s.hub.metrics.cut.WithLabelValues("stuck").Inc()
			return errWatchSlow
		},
		Stop: s.hub.stopped, Stopped: errLiveStopped,
	}, s.hub.streams.Done)
	defer out.Close()

	recent := decoded(late)
	var missed []event.ID
	if at == nil {
		at, err = s.placeNow(starting, req.GetUserId(), recent)
	} else {
		missed, err = s.missed(starting, req.GetUserId(), at, recent)
	}
	if err != nil {
		return err
	}
	started()
	live := &liveStream{hub: s.hub, w: w, place: at, list: list, out: out, now: s.now}
	if err := s.catchUp(stream.Context(), live, missed, recent); err != nil {
		return err
	}
	return live.follow(stream.Context())
}

// decoded returns the posts of messages by id.
func decoded(msgs []*message.Message) map[event.ID]news {
	posts := make(map[event.ID]news, len(msgs))
	for _, msg := range msgs {
		if n, ok := newsOf(msg); ok {
			posts[n.post] = n
		}
	}
	return posts
}

// placeNow returns the place of a client who wants only what comes next.
func (s *feedService) placeNow(ctx context.Context, user string, recent map[event.ID]news) (*place, error) {
	ids, end, err := s.store.home(ctx, user, noCursor, mostMet, nil)
	if err != nil {
		return nil, err
	}
	at := placeAfter(ids, !end, s.now())
	for id := range recent {
		at.meet(id)
	}
	return at, nil
}

// missed returns the ids of the posts after a place, oldest first.
func (s *feedService) missed(ctx context.Context, user string, at *place, recent map[event.ID]news) ([]event.ID, error) {
	var missed []event.ID
	for cursor, end := noCursor, false; !end; {
		var ids []event.ID
		var err error
		ids, end, err = s.store.home(ctx, user, cursor, backlogPart, nil)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			cursor = id
			if id <= at.floor {
				end = true
				break
			}
			if !at.has(id) {
				missed = append(missed, id)
			}
		}
		end = end || len(ids) == 0
		if len(missed) > mostBacklog {
			return nil, errWatchFar
		}
	}
	for id := range recent {
		if !at.has(id) {
			missed = append(missed, id)
		}
	}
	slices.Sort(missed)
	return slices.Compact(missed), nil
}

// catchUp sends the missed posts.
func (s *feedService) catchUp(ctx context.Context, live *liveStream, missed []event.ID, recent map[event.ID]news) error {
	for part := range slices.Chunk(missed, backlogPart) {
		var unknown []event.ID
		for _, id := range part {
			if _, known := recent[id]; !known {
				unknown = append(unknown, id)
			}
		}
		posts, _, err := s.store.readPosts(ctx, unknown)
		if err != nil {
			return err
		}
		found := make([]news, 0, len(part))
		for _, p := range posts {
			found = append(found, news{post: p.id, author: p.author, photo: p.photo})
		}
		for _, id := range part {
			if n, known := recent[id]; known {
				found = append(found, n)
			}
		}
		slices.SortFunc(found, func(a, b news) int { return cmp.Compare(a.post, b.post) })
		for _, n := range found {
			if !live.hub.shows(live.w, n) {
				continue
			}
			if err := live.send(ctx, n); err != nil {
				return err
			}
			// What comes next is newer than this one, but for what comes late.
			live.place.raise(shift(n.post, -lateness))
		}
	}
	return live.out.Send(ctx, &pb.WatchFeedResponse{
		Update: &pb.WatchFeedResponse_CaughtUp{CaughtUp: true}, Cursor: live.place.token(live.list),
	})
}

// liveStream is an open stream and how far it has got.
type liveStream struct {
	hub   *hub
	w     *watcher
	place *place
	list  tokenList
	out   *livestream.Sender[pb.WatchFeedResponse]
	now   func() time.Time
}

// follow sends news until the stream ends.
func (l *liveStream) follow(ctx context.Context) error {
	for {
		n, ok, full := l.w.take()
		switch {
		case ok:
			l.place.raise(event.FirstID(l.now().Add(-lateness)))
			if err := l.send(ctx, n); err != nil {
				return err
			}
			continue
		case full:
			l.hub.metrics.cut.WithLabelValues("full").Inc()
			return errWatchSlow
		}
		select {
		case <-l.w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.hub.stopped:
			return errLiveStopped
		}
	}
}

// send sends a piece of news, unless the client has it.
func (l *liveStream) send(ctx context.Context, n news) error {
	msg := &pb.WatchFeedResponse{}
	switch n.kind {
	case newPost:
		if !l.place.meet(n.post) {
			l.hub.metrics.late.Inc()
			return nil
		}
		msg.Update = &pb.WatchFeedResponse_Photo{Photo: n.photo}
		l.hub.metrics.sent.Inc()
	case removedPost:
		msg.Update = &pb.WatchFeedResponse_RemovedPostId{RemovedPostId: n.post.String()}
	case seenUpTo:
		msg.Update = &pb.WatchFeedResponse_SeenPostId{SeenPostId: n.post.String()}
	}
	msg.Cursor = l.place.token(l.list)
	return l.out.Send(ctx, msg)
}
