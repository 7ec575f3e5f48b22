package longrun

import (
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/status"
)

// Retries counts what a Patience repeats, for a Bar to show. The zero value is ready;
// it is safe for concurrent use.
type Retries struct {
	n atomic.Int64
	// last is the code of the last failure.
	last atomic.Pointer[string]
}

// Add is a Patience's Retried.
func (r *Retries) Add(err error) {
	code := status.Code(err).String()
	r.last.Store(&code) // before the count: who sees a retry finds its code
	r.n.Add(1)
}

// Count returns how many there were.
func (r *Retries) Count() int64 { return r.n.Load() }

// Note is a Bar's.
func (r *Retries) Note() string {
	n := r.Count()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s retries, the last for %s", Count(n), *r.last.Load())
}
