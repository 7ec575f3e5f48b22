package analytics

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	type step struct {
		wait      time.Duration
		good, bad int
		want      bool
	}
	for _, tt := range []struct {
		name  string
		earn  float64
		steps []step
	}{
		{"starts full", 1, []step{{bad: 10, want: true}, {bad: 1, want: false}}},
		{"the same batch pays", 1, []step{{good: 50, bad: 60, want: true}, {bad: 1, want: false}}},
		{"too much takes nothing", 1, []step{{bad: 11, want: false}, {bad: 10, want: true}}},
		{"good ones pay a share", 0.02, []step{{bad: 10, want: true}, {good: 49, bad: 1, want: false}, {good: 50, bad: 1, want: true}}},
		{"savings have a limit", 1, []step{{good: 1000, want: true}, {bad: 11, want: false}}},
		{"time pays", 1, []step{{bad: 10, want: true}, {wait: time.Minute, bad: 1, want: true}, {bad: 1, want: false}}},
		{"nothing bad is always fine", 1, []step{{bad: 10, want: true}, {want: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := day
			b := newBudget(10, tt.earn, time.Minute, func() time.Time { return now })
			for i, step := range tt.steps {
				now = now.Add(step.wait)
				if got := b.settle(step.good, step.bad); got != step.want {
					t.Errorf("step %d: settle(%d, %d) = %v, want %v", i, step.good, step.bad, got, step.want)
				}
			}
		})
	}
}
