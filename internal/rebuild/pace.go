package rebuild

import (
	"context"
	"sync"
	"time"
)

// slack is how far ahead of its rate a pace may run: sleeping less than that is not
// worth a timer.
const slack = 10 * time.Millisecond

// Pace spreads commands evenly over time. It is safe for concurrent use.
type Pace struct {
	rate float64

	mu sync.Mutex
	// due is when what was let through would be done at the rate.
	due time.Time
}

// NewPace returns a Pace of that many commands a second; zero or less: no limit.
func NewPace(rate int) *Pace { return &Pace{rate: float64(rate)} }

// Wait returns when n commands may go, or when ctx ends.
func (p *Pace) Wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	p.mu.Lock()
	if p.due.Before(now) {
		p.due = now // time that was not used is lost: no burst follows a pause
	}
	ahead := p.due.Sub(now)
	p.due = p.due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	p.mu.Unlock()
	if ahead <= slack {
		return ctx.Err()
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
