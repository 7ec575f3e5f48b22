package feed

import (
	"slices"
	"sync"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// news is one update on its way to a stream.
type news struct {
	// post is the post that is new or removed, or the read position.
	post   event.ID
	author string
	// photo is the new post; nil otherwise.
	photo *pb.Photo
	kind  newsKind
}

type newsKind uint8

const (
	newPost newsKind = iota
	removedPost
	seenUpTo
)

// watcher is one open stream: the news that it has not taken yet. The hub never
// waits for it; who does not keep up is cut off.
type watcher struct {
	reader *reader
	limit  int
	// wake holds one token when there is something to take.
	wake chan struct{}

	mu    sync.Mutex
	queue []news
	// full says that news was left out: the stream has to end.
	full bool
}

func newWatcher(r *reader, limit int) *watcher {
	return &watcher{reader: r, limit: limit, wake: make(chan struct{}, 1)}
}

func (w *watcher) tell(n news) {
	w.mu.Lock()
	if len(w.queue) < w.limit {
		w.queue = append(w.queue, n)
	} else {
		w.full = true
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// unsay takes back posts that were not sent yet.
func (w *watcher) unsay(which func(news) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = slices.DeleteFunc(w.queue, func(n news) bool { return n.kind == newPost && which(n) })
}

// take returns the next piece of news; ok is false if there is none. full says that
// none will come any more.
func (w *watcher) take() (n news, ok, full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue = nil // the room of a burst is not kept for hours
		return news{}, false, w.full
	}
	n = w.queue[0]
	w.queue[0] = news{}
	w.queue = w.queue[1:]
	return n, true, false
}
