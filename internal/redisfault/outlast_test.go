package redisfault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"activityfeed/internal/redisfault"
)

func TestOutlast(t *testing.T) {
	t.Parallel()
	away, bug := redisfault.Of(errors.New("connection refused"), "write"), errors.New("a bug")
	for _, tt := range []struct {
		name  string
		back  time.Duration // when Redis is back
		fails error         // what a try ends with then
		stop  time.Duration // when the caller has enough; zero: never
		want  error
		after [2]time.Duration // when it returns, at the soonest and the latest
	}{
		{"Redis is there", 0, nil, 0, nil, [2]time.Duration{0, 0}},
		{"a failover", 20 * time.Second, nil, 0, nil, [2]time.Duration{20 * time.Second, 21 * time.Second}},
		{"what is no outage", 0, bug, 0, bug, [2]time.Duration{0, 0}},
		{"an outage without end", time.Hour, nil, 0, away, [2]time.Duration{2 * time.Minute, 2*time.Minute + time.Second}},
		{"a caller who leaves", time.Hour, nil, 3 * time.Second, away, [2]time.Duration{3 * time.Second, 3 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.stop > 0 {
					time.AfterFunc(tt.stop, cancel)
				}
				begin := time.Now()
				err := redisfault.Outlast(ctx, time.Now, func() error {
					if time.Since(begin) < tt.back {
						return away
					}
					return tt.fails
				})
				took := time.Since(begin)
				if !errors.Is(err, tt.want) || took < tt.after[0] || took > tt.after[1] {
					t.Errorf("Outlast = %v after %v, want %v after %v", err, took, tt.want, tt.after)
				}
			})
		})
	}
}
