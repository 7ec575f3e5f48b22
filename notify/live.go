package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"activityfeed/internal/fault"
)

const (
	// readBatch is how many inboxes are read together for their watchers.
	readBatch = 64
	// firstPause and lastPause bound the wait before Redis is tried again.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// hub shows the inboxes of users to those who watch them in this process. What
// travels over Redis is only that an inbox has changed; the hub then reads it and
// hands the whole view to its watchers, who find out what is new to them. So a
// signal that is lost with a connection, repeated or late does no harm: whenever
// a channel is (re)subscribed its inbox is read.
//
// One connection hears for all watchers, and one goroutine reads for them, many
// inboxes at a time: a watcher never sees an older view after a newer one.
type hub struct {
	store   *store
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	// resubscribe and reread wake the two loops; they hold one token each.
	resubscribe chan struct{}
	reread      chan struct{}
	// stopped is closed when there will be no more views.
	stopped chan struct{}
	// streams counts the goroutines that send to streams: one for each join.
	streams sync.WaitGroup

	mu     sync.Mutex
	closed bool
	topics map[string]*topic
	// unsettled are users whose channel may not be subscribed as it should be.
	unsettled map[string]struct{}
	// stale are users whose inbox has to be read.
	stale map[string]struct{}
}

// topic is an inbox that is being watched.
type topic struct {
	watchers map[*watcher]struct{}
	// live says that Redis has confirmed the subscription.
	live bool
}

// watcher is one open stream.
type watcher struct {
	user string
	// views holds the newest view that the watcher has not taken yet. The hub
	// replaces it; it never waits for a watcher.
	views chan view
	// failed gets the error with which the stream has to end.
	failed chan error
}

func newHub(store *store, cfg Config, log *slog.Logger, m *metrics) *hub {
	return &hub{
		store:       store,
		cfg:         cfg,
		log:         log,
		metrics:     m,
		resubscribe: make(chan struct{}, 1),
		reread:      make(chan struct{}, 1),
		stopped:     make(chan struct{}),
		topics:      make(map[string]*topic),
		unsettled:   make(map[string]struct{}),
		stale:       make(map[string]struct{}),
	}
}

// run serves watchers until ctx ends. It returns when its goroutines have.
func (h *hub) run(ctx context.Context) {
	var group sync.WaitGroup
	defer h.streams.Wait()
	defer group.Wait()
	group.Go(func() { <-ctx.Done(); h.close() })
	group.Go(func() { h.read(ctx) })
	pause := firstPause
	for ctx.Err() == nil {
		begin := time.Now()
		err := h.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > time.Minute {
			pause = firstPause
		}
		h.log.Warn("live notifications: connection to redis lost, connecting again", "pause", pause, "err", err)
		sleep(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

// close ends all streams and refuses new ones.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	close(h.stopped)
}

// join adds a watcher. Its first view comes when the subscription stands, so that
// nothing is missed between the two. The caller starts a sender, which is done
// with h.streams when it ends, and leaves.
func (h *hub) join(user string) (*watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errStopped
	}
	w := &watcher{user: user, views: make(chan view, 1), failed: make(chan error, 1)}
	t := h.topics[user]
	if t == nil {
		t = &topic{watchers: make(map[*watcher]struct{})}
		h.topics[user] = t
		h.unsettle(user)
	}
	t.watchers[w] = struct{}{}
	if t.live {
		h.markStale(user)
	}
	h.streams.Add(1)
	return w, nil
}

// leave removes a watcher.
func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[w.user]
	delete(t.watchers, w)
	if len(t.watchers) == 0 {
		delete(h.topics, w.user)
		delete(h.stale, w.user)
		h.unsettle(w.user)
	}
}

// unsettle and markStale are called with the lock held.
func (h *hub) unsettle(user string) {
	h.unsettled[user] = struct{}{}
	wake(h.resubscribe)
}

func (h *hub) markStale(user string) {
	h.stale[user] = struct{}{}
	wake(h.reread)
}

// read reads the inboxes that have changed, until ctx ends.
func (h *hub) read(ctx context.Context) {
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reread:
		}
		for users := h.takeStale(); len(users) > 0; users = h.takeStale() {
			err := h.show(ctx, users)
			if err == nil {
				pause = firstPause
				continue
			}
			if ctx.Err() != nil {
				return
			}
			h.log.Warn("live notifications: cannot read inboxes, trying again", "pause", pause, "err", err)
			h.giveBack(users)
			sleep(ctx, pause)
			pause = min(2*pause, lastPause)
		}
	}
}

// show reads some inboxes and hands them to their watchers. It returns outages
// only. Any other error belongs to an inbox: it ends the streams of that one and
// spares its neighbours.
func (h *hub) show(ctx context.Context, users []string) error {
	views, err := h.store.views(ctx, users)
	switch {
	case err == nil:
		for i, user := range users {
			h.offer(user, views[i])
		}
		return nil
	case ctx.Err() != nil || fault.KindOf(err) == fault.Unavailable:
		return err
	case len(users) == 1:
		h.fail(users[0], err)
		return nil
	}
	for i := range users {
		if err := h.show(ctx, users[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// offer puts a view into the mailboxes of its watchers, over one that was not
// taken. Only the reading goroutine does that, so it never blocks.
func (h *hub) offer(user string, v view) {
	h.watchersOf(user, func(w *watcher) {
		select {
		case <-w.views:
		default:
		}
		w.views <- v
	})
}

func (h *hub) fail(user string, err error) {
	h.watchersOf(user, func(w *watcher) {
		select {
		case w.failed <- err:
		default:
		}
	})
}

// watchersOf calls fn with those who watch an inbox; it must not block.
func (h *hub) watchersOf(user string, fn func(*watcher)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[user]
	if t == nil {
		return
	}
	for w := range t.watchers {
		fn(w)
	}
}

func (h *hub) takeStale() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	users := make([]string, 0, min(len(h.stale), readBatch))
	for user := range h.stale {
		if len(users) == readBatch {
			break
		}
		users = append(users, user)
		delete(h.stale, user)
	}
	return users
}

func (h *hub) giveBack(users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, user := range users {
		if h.topics[user] != nil {
			h.markStale(user)
		}
	}
}

// wake puts the one token into a channel.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
