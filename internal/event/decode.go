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
)

// ErrUnknownType says that the record is of a type which this version does not
// know. It is no poison: a newer producer may write what an older consumer has
// no use for. Skip it and count it.
var ErrUnknownType = errors.New("event: unknown type")

// Reasons of poison that [Decode] gives.
const (
	ReasonUndecodable = "undecodable"
	ReasonInvalid     = "invalid"
)

// Decode reads a message back. Its errors are ErrUnknownType or faults of kind
// Permanent, with reason "undecodable" (not our bytes) or "invalid" (our bytes,
// impossible values).
func Decode(msg *message.Message) (Event, error) {
	name, ours := strings.CutPrefix(msg.Metadata.Get(headerType), typePrefix)
	if !ours && name == "" {
		return Event{}, fault.Poison(ReasonUndecodable, errors.New("no ce_type header"))
	}
	newData, known := factories[name]
	if !ours || !known {
		return Event{}, fmt.Errorf("%w %q", ErrUnknownType, name)
	}
	id, err := ParseID(msg.UUID)
	if err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("ce_id: %w", err))
	}
	at, err := time.Parse(time.RFC3339Nano, msg.Metadata.Get(headerTime))
	if err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("ce_time: %w", err))
	}
	data := newData()
	if err := proto.Unmarshal(msg.Payload, data); err != nil {
		return Event{}, fault.Poison(ReasonUndecodable, fmt.Errorf("%s: %w", name, err))
	}
	if err := protovalidate.Validate(data); err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("%s: %w", name, err))
	}
	return Event{
		ID:             id,
		Time:           at,
		Source:         msg.Metadata.Get(headerSource),
		IdempotencyKey: msg.Metadata.Get(headerIdempotencyKey),
		Data:           data,
	}, nil
}
