package feed

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// followPause is the wait before the log is followed again after a failure.
const followPause = time.Second

// LiveSince is from how long ago on [Deps.Tail] must follow the log: what the
// consumers of the feed may be behind without a stream losing anything.
const LiveSince = 2 * generationFor

// tail follows the log from LiveSince ago, or from before that.
type tail interface {
	// Run calls fn with each record, those of a partition in their order, until
	// ctx ends.
	Run(ctx context.Context, fn func(*message.Message) error) error
	// CaughtUp returns when fn has had everything that was in the log at the call.
	CaughtUp(ctx context.Context) error
}

// hub hears every fact of the log once and tells those whom it concerns among the
// users with open streams in this process. Its cost is that of reading the log, plus
// that of each stream that gets something: followers who are not connected cost
// nothing. What it knows of a user's bonds it reads from Redis when their first
// stream opens, and from the log from then on.
type hub struct {
	log     *slog.Logger
	store   bonds
	tail    tail
	behind  func(ctx context.Context, start map[int32]int64) (bool, error)
	now     func() time.Time
	metrics *liveMetrics

	// ready is closed when the recent facts are there, stopped when there will be no
	// more news.
	ready, stopped chan struct{}
	// streams counts the goroutines that send to streams.
	streams sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	recent   *recent
	interest *interest
	// checked is when the consumers were last known not to be behind.
	checked time.Time
}

func newHub(deps Deps, store bonds) *hub {
	return &hub{
		log: deps.Log, store: store, tail: deps.Tail, behind: deps.Behind, now: deps.Now, metrics: newLiveMetrics(deps.Metrics),
		ready: make(chan struct{}), stopped: make(chan struct{}),
		recent: newRecent(deps.Now), interest: newInterest(),
	}
}

// run follows the log until ctx ends, then ends all streams and returns when they
// have.
func (h *hub) run(ctx context.Context) {
	var group sync.WaitGroup
	defer h.streams.Wait()
	defer group.Wait()
	defer h.close()
	group.Go(func() { h.catchUp(ctx) })
	for {
		err := h.tail.Run(ctx, h.take)
		if ctx.Err() != nil {
			return
		}
		h.log.Error("following the log for live feeds failed; trying again", "topic", event.Topic, "pause", followPause, "err", err)
		if !pause(ctx, followPause) {
			return
		}
	}
}

// catchUp lets streams begin when the recent facts are there.
func (h *hub) catchUp(ctx context.Context) {
	for {
		err := h.tail.CaughtUp(ctx)
		if err == nil {
			close(h.ready)
			return
		}
		if !pause(ctx, followPause) {
			return
		}
		h.log.Warn("live feeds cannot begin yet", "topic", event.Topic, "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	close(h.stopped)
}

// take handles the next fact of the log. It never fails: what cannot be decoded is
// for the consumers to report.
func (h *hub) take(msg *message.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	origin := record.OriginOf(msg.Context())
	g := h.recent.at(origin.Partition, origin.Offset)
	if event.TypeOf(msg) == "PhotoPosted" {
		// The key is the author: most posts concern nobody here and are not decoded.
		author := msg.Metadata.Get(record.KeyMetadata)
		g.posts[author] = append(g.posts[author], msg)
		if a := h.interest.authors[author]; a != nil && len(a.readers) > 0 {
			h.posted(a, msg)
		}
		return nil
	}
	e, err := event.Decode(msg)
	if err != nil {
		return nil
	}
	switch d := e.Data.(type) {
	case *pb.PhotoDeleted:
		h.deleted(g, d)
	case *pb.UserFollowed:
		h.edge(g, d.GetFollowerId(), edgeFact{d.GetFolloweeId(), bondFollows, true, e.ID})
	case *pb.UserUnfollowed:
		h.edge(g, d.GetFollowerId(), edgeFact{d.GetFolloweeId(), bondFollows, false, e.ID})
	case *pb.UserBlocked:
		h.block(g, d.GetActorId(), d.GetTargetId(), true, e.ID)
	case *pb.UserUnblocked:
		h.block(g, d.GetActorId(), d.GetTargetId(), false, e.ID)
	case *pb.UserMuted:
		h.edge(g, d.GetActorId(), edgeFact{d.GetTargetId(), bondMutes, true, e.ID})
	case *pb.UserUnmuted:
		h.edge(g, d.GetActorId(), edgeFact{d.GetTargetId(), bondMutes, false, e.ID})
	case *pb.UserSawFeed:
		h.sawFeed(d)
	}
	return nil
}

func (h *hub) posted(a *author, msg *message.Message) {
	n, ok := newsOf(msg)
	if !ok || h.recent.deleted(n.author, n.post) {
		return
	}
	for _, r := range a.readers {
		for _, w := range r.watchers {
			w.tell(n)
		}
	}
	h.metrics.lag.Observe(h.now().Sub(n.post.Time()).Seconds())
}

// newsOf decodes a post.
func newsOf(msg *message.Message) (news, bool) {
	e, err := event.Decode(msg)
	if err != nil {
		return news{}, false
	}
	d, ok := e.Data.(*pb.PhotoPosted)
	if !ok {
		return news{}, false
	}
	id, err := event.ParseID(d.GetPhoto().GetPostId())
	return news{post: id, author: d.GetPhoto().GetAuthorId(), photo: d.GetPhoto()}, err == nil
}

func (h *hub) deleted(g *generation, d *pb.PhotoDeleted) {
	id, err := event.ParseID(d.GetPostId())
	if err != nil {
		return
	}
	name := d.GetAuthorId()
	g.gone[id] = name
	a := h.interest.authors[name]
	if a == nil {
		return
	}
	for _, r := range a.readers {
		for _, w := range r.watchers {
			w.unsay(func(n news) bool { return n.post == id && n.author == name })
			w.tell(news{kind: removedPost, post: id, author: name})
		}
	}
}

func (h *hub) block(g *generation, actor, target string, set bool, version event.ID) {
	h.edge(g, actor, edgeFact{target, bondBlocks, set, version})
	h.edge(g, target, edgeFact{actor, bondBlockedBy, set, version})
}

// edge takes a fact about a bond of a user.
func (h *hub) edge(g *generation, user string, e edgeFact) {
	if h.recent.stale(user, e) {
		return
	}
	g.edges[user] = append(g.edges[user], e)
	r := h.interest.readers[user]
	if r == nil || !r.isLoaded() {
		return // who joins reads the recent facts
	}
	h.apply(r, e)
}

func (h *hub) apply(r *reader, e edgeFact) {
	if !h.interest.set(r, e.other, e.bond, e.set) {
		return
	}
	for _, w := range r.watchers {
		w.unsay(func(n news) bool { return n.author == e.other })
	}
}

func (h *hub) sawFeed(d *pb.UserSawFeed) {
	id, err := event.ParseID(d.GetPostId())
	r := h.interest.readers[d.GetUserId()]
	if err != nil || r == nil || id <= r.seen {
		return
	}
	r.seen = id
	for _, w := range r.watchers {
		w.tell(news{kind: seenUpTo, post: id})
	}
}
