package middleware

import (
	"sync"
	"time"
)

// budget bounds how much may go to poison. Each letter costs a token; successes
// earn them, so that a service which fails everything soon has none, and a bad
// deploy cannot drain a topic into its poison topic. The idea is that of Uber's
// uForwarder (DlqDispatchManager).
type budget struct {
	// limit is the most tokens it holds, and what it starts with.
	limit float64
	// earn is what one success credits.
	earn float64
	// free is how long one token takes to come by itself, so that poison which
	// has no neighbours at all is not stuck for ever.
	free time.Duration

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newBudget(limit, earn float64, free time.Duration) *budget {
	return &budget{limit: limit, earn: earn, free: free, tokens: limit, at: time.Now()}
}

// credit pays for n successes.
func (b *budget) credit(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(b.earn * float64(n))
}

// refund gives a token back that was not spent.
func (b *budget) refund() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(1)
}

// take takes one token, or returns false.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.add(now.Sub(b.at).Seconds() / b.free.Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *budget) add(tokens float64) { b.tokens = min(b.tokens+tokens, b.limit) }
