package delivery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// Topic is where the facts go. They have no key: nobody needs them in order.
const Topic = "deliveries"

const (
	headerType        = "ce_type"
	headerTime        = "ce_time"
	headerSource      = "ce_source"
	headerSpecVersion = "ce_specversion"
	headerContentType = "content-type"

	typePrefix = "activityfeed.v1."
	// maxText bounds what of a foreign text is kept: event types, reasons.
	maxText = 128
)

// Fact is something that a service did.
type Fact struct {
	// Name is the same for a repeat of the same work and for nothing else.
	Name string
	// Time is when it was done.
	Time time.Time
	// Data is one of the messages of delivery.proto.
	Data proto.Message
}

// Type returns the short name of the fact: "FanoutDone".
func (f Fact) Type() string { return string(f.Data.ProtoReflect().Descriptor().Name()) }

// Fanout is the fact that a post was written to feeds or inboxes. id and accepted
// are those of the post's event.
func Fanout(service string, id event.ID, accepted time.Time, photo *pb.Photo, audience, written int, done time.Time) Fact {
	return Fact{
		Name: service + "/FanoutDone/" + id.String(),
		Time: done,
		Data: &pb.FanoutDone{
			Service: service, EventId: id.String(), PostId: photo.GetPostId(), AuthorId: photo.GetAuthorId(),
			AcceptTime: timestamppb.New(accepted), Audience: uint32(max(audience, 0)), Written: uint32(max(written, 0)),
		},
	}
}

// Push is the fact that an attempt at a push ended.
func Push(o *pb.PushOutcome, done time.Time) Fact {
	return Fact{
		Name: strings.Join([]string{"notify/PushOutcome", o.GetEventId(), o.GetUserId(), o.GetDeviceId(), strconv.Itoa(int(o.GetAttempt()))}, "/"),
		Time: done,
		Data: o,
	}
}

// Poisoned is the fact that a service put a record aside.
func Poisoned(service, reason, eventType string, origin record.Origin, done time.Time) Fact {
	return Fact{
		Name: fmt.Sprintf("%s/Poisoned/%s/%s", service, origin.TopicID, origin),
		Time: done,
		Data: &pb.Poisoned{
			Service: service, Reason: clip(reason), EventType: clip(strings.TrimPrefix(eventType, typePrefix)),
			Topic: origin.Topic, Partition: origin.Partition, Offset: origin.Offset, RecordTime: timestamppb.New(origin.Time),
		},
	}
}

// clip makes a foreign text fit: valid UTF-8, not endless.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}

// Encode returns the record's message of a fact. source is the process.
func Encode(f Fact, source string) (*message.Message, error) {
	payload, err := proto.Marshal(f.Data)
	if err != nil {
		return nil, fmt.Errorf("delivery: %s: %w", f.Type(), err)
	}
	msg := message.NewMessage(f.Name, payload)
	msg.Metadata = message.Metadata{
		headerType:        typePrefix + f.Type(),
		headerTime:        f.Time.UTC().Format(time.RFC3339Nano),
		headerSource:      source,
		headerSpecVersion: "1.0",
		headerContentType: "application/protobuf",
	}
	return msg, nil
}

// Is says whether a message is a fact of this package, going by its type alone.
func Is(msg *message.Message) bool {
	switch strings.TrimPrefix(msg.Metadata.Get(headerType), typePrefix) {
	case "FanoutDone", "PushOutcome", "Poisoned":
		return true
	}
	return false
}

// Decode reads a record back. Its errors are [event.ErrUnknownType] or faults of
// kind Permanent, as those of event.Decode.
func Decode(r record.Record) (Fact, error) {
	var f Fact
	var kind, at string
	for _, h := range r.Headers {
		switch h.Name {
		case record.IDHeader:
			f.Name = string(h.Value)
		case headerType:
			kind = string(h.Value)
		case headerTime:
			at = string(h.Value)
		}
	}
	switch kind {
	case "":
		return f, fault.Poison(event.ReasonUndecodable, errors.New("no ce_type header"))
	case typePrefix + "FanoutDone":
		f.Data = &pb.FanoutDone{}
	case typePrefix + "PushOutcome":
		f.Data = &pb.PushOutcome{}
	case typePrefix + "Poisoned":
		f.Data = &pb.Poisoned{}
	default:
		return f, fmt.Errorf("%w %q", event.ErrUnknownType, clip(kind))
	}
	var err error
	if f.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return f, fault.Poison(event.ReasonInvalid, fmt.Errorf("ce_time: %w", err))
	}
	if f.Name == "" {
		return f, fault.Poison(event.ReasonInvalid, errors.New("ce_id is empty"))
	}
	if err := proto.Unmarshal(r.Value, f.Data); err != nil {
		return f, fault.Poison(event.ReasonUndecodable, fmt.Errorf("%s: %w", f.Type(), err))
	}
	return f, nil
}
