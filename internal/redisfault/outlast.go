package redisfault

import (
	"context"
	"time"

	"activityfeed/internal/fault"
)

const (
	// patience is how long a failover and a restart may take together.
	patience = 2 * time.Minute
	// firstPause is that between the first two tries; it doubles up to lastPause.
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// Outlast tries again while Redis is away, for two minutes at most, and returns the
// error of the last try. It is for tools that may repeat what they write; a consumer
// gives its message back instead. now is the clock.
func Outlast(ctx context.Context, now func() time.Time, try func() error) error {
	begin := now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try()
		if fault.KindOf(err) != fault.Unavailable || ctx.Err() != nil || now().Sub(begin) > patience {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}
