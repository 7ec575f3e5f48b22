// Package livestream sends messages on server streams whose clients may stop reading.
package livestream

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// Ends says when a stream ends, other than with its call.
type Ends struct {
	// SlowAfter is how long a client may leave a message unread; then Send returns what
	// Slow returns.
	SlowAfter time.Duration
	Slow      func() error
	// Stop is closed when the server stops; then Send returns Stopped.
	Stop    <-chan struct{}
	Stopped error
}

// Sender sends from a goroutine of its own: grpc's Send blocks for as long as a client
// does not read, and only the end of the call interrupts it. It is for one user at a
// time.
type Sender[T any] struct {
	ends     Ends
	messages chan *T
	results  chan error
}

// NewSender returns the sender of a stream. Its goroutine ends, and calls done, after
// Close and the Send under way, which the end of the call interrupts: whoever serves the
// stream returns from its handler after Close, and must not wait for done in it.
func NewSender[T any](stream grpc.ServerStreamingServer[T], ends Ends, done func()) *Sender[T] {
	s := &Sender[T]{ends: ends, messages: make(chan *T), results: make(chan error, 1)}
	go func() {
		defer done()
		for msg := range s.messages {
			s.results <- stream.Send(msg)
		}
	}()
	return s
}

// Close lets the goroutine end. Nothing may be sent after it.
func (s *Sender[T]) Close() { close(s.messages) }

// Send returns nil when the message is in the buffers between us and the client, or the
// error with which the call has to end: the stream's own, that of ctx, Slow's or Stopped.
// Nothing may be sent after an error.
func (s *Sender[T]) Send(ctx context.Context, msg *T) error {
	s.messages <- msg // the goroutine waits for it
	slow := time.NewTimer(s.ends.SlowAfter)
	defer slow.Stop()
	select {
	case err := <-s.results:
		return err
	case <-slow.C:
		select {
		case err := <-s.results:
			return err // it was we who were slow
		default:
			return s.ends.Slow()
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ends.Stop:
		return s.ends.Stopped
	}
}
