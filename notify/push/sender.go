package push

import (
	"context"

	"activityfeed/internal/fault"
)

// Sender speaks to the push services of one provider. It is safe for concurrent
// use.
type Sender interface {
	// Send makes one attempt and says what came of it. It does not fail otherwise:
	// an ended context is a Retry with reason Canceled.
	Send(ctx context.Context, to Target, m Message) Outcome
	// Check says whether a device can be registered, without talking to anybody: an
	// InvalidArgument fault that names the field at fault ("endpoint", "p256dh",
	// "auth", "token", ...), or nil.
	Check(to Target) error
}

// Senders sends to each target by its provider's Sender. A provider that is not
// there is not configured: its devices cannot be registered, and what is sent to
// them is dropped.
type Senders map[Provider]Sender

// Send implements Sender.
func (s Senders) Send(ctx context.Context, to Target, m Message) Outcome {
	sender, ok := s[to.Provider]
	if !ok {
		return Outcome{Action: Drop, Reason: NoProvider}
	}
	return sender.Send(ctx, to, m)
}

// Check implements Sender.
func (s Senders) Check(to Target) error {
	sender, ok := s[to.Provider]
	if !ok {
		return fault.Invalid("provider", "is not one that this server sends to")
	}
	return sender.Check(to)
}
