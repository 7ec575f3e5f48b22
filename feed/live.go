package feed

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
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

// bonds reads what Redis knows of a user.
type bonds interface {
	// bondsOf returns all bonds of a user.
	bondsOf(ctx context.Context, user string) (map[string]bond, error)
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

func (r *reader) isLoaded() bool {
	select {
	case <-r.loaded:
		return r.err == nil
	default:
		return false
	}
}

var (
	errLiveStopped = fault.Outage("live feeds are stopping; connect again", errors.New("shutdown"))

	errNotLive = errors.New("the log is not followed here")
	errLagging = errors.New("the consumers are behind what is remembered")
)

// join opens a stream of a user. It returns what the log had of late by the authors
// in the user's feed, and tells the watcher what comes after that. The caller starts a
// sender, which is done with h.streams when it ends, and leaves.
func (h *hub) join(ctx context.Context, user string, limit int) (w *watcher, late []*message.Message, err error) {
	if h.tail == nil {
		return nil, nil, fault.Outage("live feeds are not served here", errNotLive)
	}
	select {
	case <-h.ready:
	case <-h.stopped:
		return nil, nil, errLiveStopped
	case <-ctx.Done():
		return nil, nil, fault.Outage("live feeds are not available yet", ctx.Err())
	}
	if err := h.consumersFollow(ctx); err != nil {
		return nil, nil, err
	}
	r, err := h.reader(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.joining--
	if h.closed {
		h.release(r)
		return nil, nil, errLiveStopped
	}
	w = newWatcher(r, limit)
	r.watchers = append(r.watchers, w)
	h.streams.Add(1)
	h.metrics.watchers.Inc()
	for _, t := range r.ties {
		if t.bond.shows() {
			late = append(late, h.recent.posts(t.author.name)...)
		}
	}
	return w, late, nil
}

// behindPause is the wait before consumers that are behind are asked for again.
const behindPause = 200 * time.Millisecond

// consumersFollow refuses streams while Redis is further behind the log than what is
// remembered. While it is not, the log is asked once a second at most.
func (h *hub) consumersFollow(ctx context.Context) error {
	for h.behind != nil {
		h.mu.Lock()
		start, fresh := h.recent.start(), h.now().Sub(h.checked) < time.Second
		h.mu.Unlock()
		if fresh {
			return nil
		}
		behind, err := h.behind(ctx, start)
		if err != nil {
			return fault.Outage("live feeds are not available now", err)
		}
		if !behind {
			h.mu.Lock()
			h.checked = h.now()
			h.mu.Unlock()
			return nil
		}
		if !pause(ctx, behindPause) {
			return fault.Outage("feeds are catching up with the log; connect again", errLagging)
		}
	}
	return nil
}

// reader returns the user's entry in the index, its bonds loaded.
func (h *hub) reader(ctx context.Context, user string) (*reader, error) {
	h.mu.Lock()
	r := h.interest.readers[user]
	if r == nil {
		r = &reader{user: user, loaded: make(chan struct{}), joining: 1}
		h.interest.readers[user] = r
		h.mu.Unlock()
		return r, h.load(ctx, r)
	}
	r.joining++
	h.mu.Unlock()
	select {
	case <-r.loaded:
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		r.joining--
		h.release(r)
		return nil, fault.Outage("live feeds are not available now", ctx.Err())
	}
	return r, r.err
}

// load reads the bonds of a new reader. Redis may be behind the log or ahead of it;
// in the order of the log, the recent facts lead from either to now.
func (h *hub) load(ctx context.Context, r *reader) error {
	// It is for all who wait: the first one's leaving must not end it.
	known, err := h.store.bondsOf(context.WithoutCancel(ctx), r.user)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer close(r.loaded)
	if err != nil {
		r.err = err
		h.interest.forget(r)
		return err
	}
	h.interest.set(r, r.user, bondSelf, true)
	for other, b := range known {
		h.interest.set(r, other, b, true)
	}
	for _, e := range h.recent.edges(r.user) {
		h.apply(r, e)
	}
	return nil
}

// leave closes a stream.
func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := w.reader
	r.watchers = slices.DeleteFunc(r.watchers, func(other *watcher) bool { return other == w })
	h.metrics.watchers.Dec()
	h.release(r)
}

// release forgets a reader whom nobody uses.
func (h *hub) release(r *reader) {
	if len(r.watchers) == 0 && r.joining == 0 && h.interest.readers[r.user] == r {
		h.interest.forget(r)
	}
}

// shows says whether a post stands in the feed of a stream now, as far as the log is
// ahead of Redis.
func (h *hub) shows(w *watcher, n news) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.reader.sees(n.author) && !h.recent.deleted(n.author, n.post)
}

// liveMetrics is what an operator sees of live feeds.
type liveMetrics struct {
	watchers prometheus.Gauge
	sent     prometheus.Counter
	late     prometheus.Counter
	lag      prometheus.Histogram
	cut      *prometheus.CounterVec
}

func newLiveMetrics(reg prometheus.Registerer) *liveMetrics {
	const prefix = "activityfeed_feed_live_"
	return &liveMetrics{
		watchers: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "watchers", Help: "Open streams of home feeds in this process.",
		})),
		sent: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "posts_total", Help: "Posts that were sent on streams.",
		})),
		late: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "repeats_total", Help: "Posts that were not sent: the stream had sent them before, or they came minutes late.",
		})),
		lag: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "seconds", Help: "Time from accepting a post to handing it to the streams.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18), // 0.5 ms to 1 min
		})),
		cut: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "cut_total", Help: "Streams that were cut off, by reason: full (news piled up), stuck (the client did not read).",
		}, []string{"reason"})),
	}
}
