package rebuild_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"activityfeed/internal/rebuild"
)

func TestPace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		rate int
		want time.Duration
	}{
		{"1,000 a second", 1000, 2 * time.Second},
		{"no limit", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pace, start := rebuild.NewPace(tt.rate), time.Now()
				time.Sleep(time.Second) // a pause is no credit
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(func() {
						for range 10 {
							if err := pace.Wait(t.Context(), 10); err != nil {
								t.Error(err)
							}
						}
					})
				}
				callers.Wait()
				got := time.Since(start) - time.Second
				if got < tt.want-20*time.Millisecond || got > tt.want+20*time.Millisecond {
					t.Errorf("2,000 commands took %s, want about %s", got, tt.want)
				}
			})
		})
	}
}

func TestPaceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace := rebuild.NewPace(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = pace.Wait(ctx, 100)
		if err := pace.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v, want the deadline", err)
		}
	})
}
