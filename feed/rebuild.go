package feed

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
)

// buildTries is how often a build starts again after a follow dropped it.
const buildTries = 3

// build makes the list of a cold feed, once however many callers of this process
// ask for it. Without an error the list may still be missing or unfinished,
// because another process builds it or follows keep dropping it: then the caller
// reads the authors' lists instead.
func (s *redisStore) build(ctx context.Context, user string) error {
	return s.builds.do(ctx, user, func() error {
		// The build is for all who wait: the first one's leaving must not end it.
		patience := s.patience(ctx)
		ctx := context.WithoutCancel(ctx)
		done, again, err := s.building.take(ctx, patience)
		switch {
		case err != nil:
			return err
		case done == nil:
			s.metrics.rebuilds.WithLabelValues("refused").Inc()
			return fault.Busy(again, "too many feeds are being built, that of %s has to wait", user)
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, s.cfg.RebuildTimeout)
		defer cancel()
		for range buildTries {
			settled, err := s.buildOnce(ctx, user)
			if settled || err != nil {
				return err
			}
		}
		s.metrics.rebuilds.WithLabelValues("dropped").Inc()
		return nil
	})
}

// patience is for how long a reader can wait for the turn of a build, so that it
// still has time to run.
func (s *redisStore) patience(ctx context.Context) time.Duration {
	patience := s.cfg.RebuildWait
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)*9/10)
	}
	return patience
}

// buildOnce puts a marker, reads the followees, then their lists, and writes the
// result where the marker still is. So whatever happens meanwhile is in it: a
// post is in its author's list by then, or lands before the marker; a follow is
// among the followees, or takes the marker away; an author who becomes large is
// known as such or marks the feed. A builder that dies leaves a marker that
// expires. settled says that there is nothing left to do here.
func (s *redisStore) buildOnce(ctx context.Context, user string) (settled bool, err error) {
	feed := []string{feedKey(user), pulledKey(user), editionKey(user)}
	marker := markerPrefix + rand.Text()
	begin := beginScript.Int(ctx, feed, marker, s.cfg.RebuildTimeout.Milliseconds())
	if err := s.exec(ctx, []redis.Cmder{begin}); err != nil {
		return false, redisfault.Of(err, "begin to build feed of %s", user)
	}
	if begin.Val() == 0 {
		return true, nil
	}
	authors, err := s.sources(ctx, user)
	if err != nil {
		return false, err
	}
	// The user, who is the first, gets their own posts pushed however large they are.
	pushing, pulled, err := s.split(ctx, authors[1:])
	if err != nil {
		return false, err
	}
	ids, end, err := s.newest(ctx, append(pushing, user), noCursor, s.cfg.Cap)
	if err != nil {
		return false, err
	}
	argv := make([]any, 0, 5+len(pulled)+len(ids))
	argv = append(argv, marker, s.cfg.Cap, s.cfg.ColdAfter.Milliseconds(), len(pulled))
	for _, author := range pulled {
		argv = append(argv, author)
	}
	for _, id := range ids {
		argv = append(argv, id.String())
	}
	if end {
		argv = append(argv, sentinel)
	}
	install := installScript.Int(ctx, feed, argv...)
	if err := s.exec(ctx, []redis.Cmder{install}); err != nil {
		return false, redisfault.Of(err, "build feed of %s", user)
	}
	if install.Val() == 0 {
		return false, nil
	}
	s.metrics.rebuilds.WithLabelValues("built").Inc()
	return true, nil
}

// flights lets one caller work for all who want the same at the same time. It is
// singleflight without a goroutine of its own: the first caller does the work,
// the others may leave. The zero value is ready.
type flights struct {
	mu      sync.Mutex
	current map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

func (f *flights) do(ctx context.Context, key string, work func() error) error {
	f.mu.Lock()
	if current, ok := f.current[key]; ok {
		f.mu.Unlock()
		select {
		case <-current.done:
			return current.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mine := &flight{done: make(chan struct{})}
	if f.current == nil {
		f.current = map[string]*flight{}
	}
	f.current[key] = mine
	f.mu.Unlock()

	defer func() {
		f.mu.Lock()
		delete(f.current, key)
		f.mu.Unlock()
		close(mine.done)
	}()
	mine.err = work()
	return mine.err
}
