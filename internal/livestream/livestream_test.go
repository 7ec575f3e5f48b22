package livestream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
)

var (
	errSlow    = errors.New("slow")
	errStopped = errors.New("stopped")
	errGone    = errors.New("gone")
)

// client takes a message as its read says; an error of the call ends every Send.
type client struct {
	grpc.ServerStreamingServer[int]

	call context.Context
	read func(msg int) error // nil: it does not read
	got  []int
}

func (c *client) Send(msg *int) error {
	if c.read == nil {
		<-c.call.Done()
		return c.call.Err()
	}
	c.got = append(c.got, *msg)
	return c.read(*msg)
}

func TestSend(t *testing.T) {
	t.Parallel()
	reads := func(int) error { return nil }
	for _, tt := range []struct {
		name string
		read func(int) error
		// meanwhile happens while the third message is sent.
		meanwhile func(endCall, stop func())
		want      error
		after     time.Duration
		got       int
	}{
		{"a client that reads", reads, func(_, _ func()) {}, nil, 0, 3},
		{"one that takes its time", func(int) error { time.Sleep(9 * time.Second); return nil }, func(_, _ func()) {}, nil, 27 * time.Second, 3},
		{"one that does not read", nil, func(_, _ func()) {}, errSlow, 10 * time.Second, 0},
		{"one that goes", nil, func(endCall, _ func()) { endCall() }, context.Canceled, time.Second, 0},
		{"a stop", nil, func(_, stop func()) { stop() }, errStopped, time.Second, 0},
		{"a broken stream", func(n int) error {
			if n == 2 {
				return errGone
			}
			return nil
		}, func(_, _ func()) {}, errGone, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, endCall := context.WithCancel(t.Context())
				defer endCall()
				stop := make(chan struct{})
				c := &client{call: ctx, read: tt.read}
				done := make(chan struct{})
				s := NewSender(c, Ends{SlowAfter: 10 * time.Second, Slow: func() error { return errSlow }, Stop: stop, Stopped: errStopped}, func() { close(done) })
				time.AfterFunc(time.Second, func() { tt.meanwhile(endCall, func() { close(stop) }) })
				begin := time.Now()
				var err error
				for n := 1; n <= 3 && err == nil; n++ {
					err = s.Send(ctx, &n)
				}
				if after := time.Since(begin); !errors.Is(err, tt.want) || after != tt.after {
					t.Errorf("Send() = %v after %v, want %v after %v", err, after, tt.want, tt.after)
				}
				s.Close()
				endCall() // as the return of a handler does
				<-done
				if len(c.got) != tt.got {
					t.Errorf("the client has %v, want %d messages", c.got, tt.got)
				}
			})
		})
	}
}
