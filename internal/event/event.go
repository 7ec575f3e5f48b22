// Package event is the language of the log: which facts there are, on which
// topic and under which key they travel, and how one becomes a Watermill
// message and back.
//
// The payload is the protobuf message of proto/activityfeed/v1/event.proto; its
// id, type, source and time are CloudEvents 1.0 attributes in the headers, as
// the Kafka protocol binding lays them out (binary content mode).
package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// Topic is the one ordered log of all facts.
const Topic = "activity"

// AccountTopic is the log of what people set for themselves: devices, preferences,
// marks. Each fact is the whole state of its key, so that it may be compacted.
const AccountTopic = "account"

// PoisonTopic returns where a service puts events that it cannot process.
func PoisonTopic(service string) string { return service + ".poison" }

// RetryTopic returns where replayed poison comes back to the service. No other
// service reads it.
func RetryTopic(service string) string { return service + ".retry" }

// CloudEvents attributes as headers. The id attribute is the message's UUID.
const (
	headerType        = "ce_type"
	headerSource      = "ce_source"
	headerTime        = "ce_time"
	headerSpecVersion = "ce_specversion"
	// headerIdempotencyKey is an extension attribute: the client's key.
	headerIdempotencyKey = "ce_idempotencykey"
	headerContentType    = "content-type"

	specVersion = "1.0"
	contentType = "application/protobuf"
	typePrefix  = "activityfeed.v1."
)

// Event is one fact with its circumstances.
type Event struct {
	// ID is unique and time-ordered.
	ID ID
	// Time is when the command was accepted, to the millisecond.
	Time time.Time
	// Source is the process that accepted it, for people who search logs.
	Source string
	// IdempotencyKey is the client's, empty if it gave none.
	IdempotencyKey string
	// Data is the fact: one of the messages of event.proto.
	Data proto.Message
}

// Type returns the short name of the fact: "PhotoPosted".
func (e Event) Type() string { return string(e.Data.ProtoReflect().Descriptor().Name()) }

// factories lists every fact that this version knows, by its short name.
var factories = map[string]func() proto.Message{
	"PhotoPosted":    func() proto.Message { return new(pb.PhotoPosted) },
	"PhotoDeleted":   func() proto.Message { return new(pb.PhotoDeleted) },
	"UserFollowed":   func() proto.Message { return new(pb.UserFollowed) },
	"UserUnfollowed": func() proto.Message { return new(pb.UserUnfollowed) },
	"UserBlocked":    func() proto.Message { return new(pb.UserBlocked) },
	"UserUnblocked":  func() proto.Message { return new(pb.UserUnblocked) },
	"UserMuted":      func() proto.Message { return new(pb.UserMuted) },
	"UserUnmuted":    func() proto.Message { return new(pb.UserUnmuted) },
	"UserSawFeed":    func() proto.Message { return new(pb.UserSawFeed) },

	"DeviceRegistered": func() proto.Message { return new(pb.DeviceRegistered) },
	"DeviceRemoved":    func() proto.Message { return new(pb.DeviceRemoved) },
	"PreferencesSet":   func() proto.Message { return new(pb.PreferencesSet) },
	"InboxMarked":      func() proto.Message { return new(pb.InboxMarked) },
}

// Key returns the record key of a fact, which chooses its partition: the user whose
// followers care, and on the topic of accounts what the fact is the state of.
func Key(data proto.Message) (string, error) {
	switch d := data.(type) {
	case *pb.PhotoPosted:
		return d.GetPhoto().GetAuthorId(), nil
	case *pb.PhotoDeleted:
		return d.GetAuthorId(), nil
	case *pb.UserFollowed:
		return d.GetFolloweeId(), nil
	case *pb.UserUnfollowed:
		return d.GetFolloweeId(), nil
	case *pb.UserBlocked:
		return d.GetActorId(), nil
	case *pb.UserUnblocked:
		return d.GetActorId(), nil
	case *pb.UserMuted:
		return d.GetActorId(), nil
	case *pb.UserUnmuted:
		return d.GetActorId(), nil
	case *pb.UserSawFeed:
		return d.GetUserId(), nil
	case *pb.DeviceRegistered:
		return "device/" + d.GetDeviceId(), nil
	case *pb.DeviceRemoved:
		return "device/" + d.GetDeviceId(), nil
	case *pb.PreferencesSet:
		return "preferences/" + d.GetUserId(), nil
	case *pb.InboxMarked:
		return "inbox/" + d.GetUserId(), nil
	}
	return "", fmt.Errorf("event: no partition key for %T", data)
}

// Encode returns the message of an event. It refuses an event that a consumer
// would refuse, so that bad facts never reach the log: with a fault of kind
// InvalidArgument, whose Field is a path in the fact, if the fact breaks a rule
// of event.proto.
func Encode(e Event) (*message.Message, error) {
	key, err := Key(e.Data)
	if err != nil {
		return nil, err
	}
	if e.ID < minID {
		return nil, fmt.Errorf("event: %s: %d is not an id of 19 digits", e.Type(), e.ID)
	}
	if err := validate(e.Data); err != nil {
		var invalid *protovalidate.ValidationError
		if errors.As(err, &invalid) && len(invalid.Violations) > 0 {
			first := invalid.Violations[0].Proto
			err = fault.Invalid(protovalidate.FieldPathString(first.GetField()), "%s", first.GetMessage())
		}
		return nil, fmt.Errorf("event: %s: %w", e.Type(), err)
	}
	payload, err := proto.Marshal(e.Data)
	if err != nil {
		return nil, fmt.Errorf("event: %s: %w", e.Type(), err)
	}
	msg := message.NewMessage(e.ID.String(), payload)
	msg.Metadata = message.Metadata{
		record.KeyMetadata: key,
		headerType:         typePrefix + e.Type(),
		headerSource:       e.Source,
		headerTime:         e.Time.UTC().Format(time.RFC3339Nano),
		headerSpecVersion:  specVersion,
		headerContentType:  contentType,
	}
	if e.IdempotencyKey != "" {
		msg.Metadata[headerIdempotencyKey] = e.IdempotencyKey
	}
	return msg, nil
}

// IdempotencyKeyOf returns the client's key of a message, empty if there is none.
// It looks at a header alone, for who reads the whole log for the few events that
// have one.
func IdempotencyKeyOf(msg *message.Message) string {
	return msg.Metadata.Get(headerIdempotencyKey)
}

// TypeOf returns the short name of a message's fact, "PhotoPosted", for who decodes
// few of many. It looks at a header alone; a fact may not be what it is called.
func TypeOf(msg *message.Message) string {
	return strings.TrimPrefix(msg.Metadata.Get(headerType), typePrefix)
}
