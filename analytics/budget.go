package analytics

import (
	"sync"
	"time"
)

// budget bounds how much may go to poison beside what goes well, so that a bad
// deploy or a broken table cannot drain the log into the poison topic. It is
// internal/middleware's budget, counted in records of a batch: the good ones of
// the same batch pay at once.
type budget struct {
	// limit is the most tokens that are kept, and the number at the start.
	limit float64
	// earn is what a good record pays.
	earn float64
	// free is how long a token takes to come by itself, so that lonely poison is
	// not stuck for ever.
	free time.Duration
	now  func() time.Time

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newBudget(limit, earn float64, free time.Duration, now func() time.Time) *budget {
	return &budget{limit: limit, earn: earn, free: free, now: now, tokens: limit, at: now()}
}

// settle takes good records in and pays for bad ones. It returns false, and takes
// nothing, if they cannot be paid.
func (b *budget) settle(good, bad int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	tokens := min(b.limit, b.tokens+now.Sub(b.at).Seconds()/b.free.Seconds())
	b.at, b.tokens = now, tokens
	if tokens += b.earn*float64(good) - float64(bad); bad > 0 && tokens < 0 {
		return false
	}
	b.tokens = min(b.limit, tokens)
	return true
}

// refund gives n tokens back that were not spent.
func (b *budget) refund(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.limit, b.tokens+float64(n))
}

// most returns how many bad records a batch of n can have and still be settled.
func (b *budget) most(n int) int { return int(b.limit + b.earn*float64(n)) }
