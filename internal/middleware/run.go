package middleware

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrEnded says that the subscriptions of a router ended before it was stopped.
var ErrEnded = errors.New("the subscriptions ended by themselves")

// RunRouter runs a router until ctx ends and returns when its handlers have
// finished or were given back to the log; closing is called first, for the poison
// of the service. A router that ends before ctx does is an ErrEnded.
//
// The router's own context does not end: ending it would cut running handlers off,
// while Close lets the subscribers drain.
func RunRouter(ctx context.Context, router *message.Router, closing func()) error {
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	early := func(err error) error {
		return errors.Join(ErrEnded, err, router.Close())
	}
	select {
	case err := <-ended:
		return early(err)
	case <-ctx.Done():
	}
	// A router that is closed while it starts forgets that it was closed.
	select {
	case err := <-ended:
		return early(err)
	case <-router.Running():
	}
	// From here on failures say nothing about the messages.
	closing()
	if err := errors.Join(router.Close(), <-ended); err != nil {
		return fmt.Errorf("close router: %w", err)
	}
	return nil
}
