package feed

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/fault"
)

// bonds reads what Redis knows of a user.
type bonds interface {
	// bondsOf returns all bonds of a user.
	bondsOf(ctx context.Context, user string) (map[string]bond, error)
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

func (r *reader) isLoaded() bool {
	select {
	case <-r.loaded:
		return r.err == nil
	default:
		return false
	}
}
