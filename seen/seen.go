package seen

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// publisher writes facts to the log; it returns when the log has them (acks=all).
type publisher interface {
	PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error
}

// Deps is what the write side of marks works with. All are required.
type Deps struct {
	Publisher publisher
	// IDs makes the ids of events. No two processes may share its node.
	IDs *event.IDs
	// Source names this process in the events that it writes.
	Source string
}

// Seen is the write side of what a person has seen.
type Seen struct {
	cfg  Config
	deps Deps
}

// New returns a Seen.
func New(cfg Config, deps Deps) (*Seen, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Publisher == nil || deps.IDs == nil || deps.Source == "" {
		return nil, errors.New("seen: Publisher, IDs and Source are required")
	}
	return &Seen{cfg: cfg.withDefaults(), deps: deps}, nil
}

// SawFeed appends that a user has seen their home feed up to a post. It refuses a
// user that is no user id with a fault of kind InvalidArgument on user_id.
func (s *Seen) SawFeed(ctx context.Context, user string, upTo event.ID) error {
	return s.append(ctx, "mark of the home feed of "+user, &pb.UserSawFeed{UserId: user, PostId: upTo.String()})
}

// append writes a fact. A caller who hangs up does not end it: half a publish would
// leave everybody in doubt about its outcome.
func (s *Seen) append(ctx context.Context, what string, fact proto.Message) error {
	id := s.deps.IDs.Next()
	msg, err := event.Encode(event.Event{ID: id, Time: id.Time(), Source: s.deps.Source, Data: fact})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.PublishTimeout)
	defer cancel()
	err = s.deps.Publisher.PublishContext(ctx, event.Topic, msg)
	if err != nil && fault.KindOf(err) != fault.Permanent {
		err = fault.Outage("the log did not accept the mark", err)
	}
	if err != nil {
		return fmt.Errorf("append %s: %w", what, err)
	}
	return nil
}
