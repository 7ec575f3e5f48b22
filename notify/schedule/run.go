package schedule

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// firstPause and lastPause bound the wait before Redis is tried again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Work does jobs that were claimed together. It settles each, and calls release
// once for each when it is through with it; it may return before.
type Work func(ctx context.Context, jobs []Job, release func())

// Run hands jobs to work until ctx ends, at most slots at a time, at most batch
// together; then it returns when all are released. The context of work outlives
// ctx by grace, so that what is being sent may end well.
func (q *Queue) Run(ctx context.Context, slots, batch int, grace time.Duration, log *slog.Logger, work Work) {
	free := semaphore.NewWeighted(int64(slots))
	var running sync.WaitGroup
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		sleep(working, grace)
		cancel()
	})
	defer stop()
	defer running.Wait()

	pause := firstPause
	for ctx.Err() == nil {
		n := take(ctx, free, batch)
		if n == 0 {
			return
		}
		jobs, next, err := q.Claim(ctx, n)
		free.Release(int64(n - len(jobs)))
		if len(jobs) > 0 {
			running.Add(len(jobs))
			work(working, jobs, func() { free.Release(1); running.Done() })
		}
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("cannot claim jobs, trying again", "queue", q.cfg.Name, "pause", pause, "err", err)
			}
			sleep(ctx, pause)
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		q.wait(ctx, next)
	}
}

// take waits for one slot and takes up to n.
func take(ctx context.Context, free *semaphore.Weighted, n int) int {
	if free.Acquire(ctx, 1) != nil {
		return 0
	}
	taken := 1
	for taken < n && free.TryAcquire(1) {
		taken++
	}
	return taken
}

// wait returns at next, or when this process has added a job.
func (q *Queue) wait(ctx context.Context, next time.Time) {
	timer := time.NewTimer(next.Sub(q.now()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.added:
	case <-ctx.Done():
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
