package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisWatch knows whether Redis answers: who writes to it waits for two minutes, and
// says nothing meanwhile.
type redisWatch struct {
	away   atomic.Bool
	cancel context.CancelFunc
	ended  chan struct{}
}

// pingPeriod is how often Redis is asked whether it is there.
const pingPeriod = time.Second

func watchRedis(ctx context.Context, client redis.UniversalClient) *redisWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &redisWatch{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		tick := time.NewTicker(pingPeriod)
		defer tick.Stop()
		for {
			asking, cancel := context.WithTimeout(ctx, 3*pingPeriod)
			err := client.Ping(asking).Err()
			cancel()
			w.away.Store(err != nil)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// waiting is what a line of progress says of it.
func (w *redisWatch) waiting() string {
	if w.away.Load() {
		return "Redis does not answer: waiting for it, two minutes at most"
	}
	return ""
}

func (w *redisWatch) stop() {
	w.cancel()
	<-w.ended
}
