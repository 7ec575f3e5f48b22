package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

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
	return decode(attributes{
		id:             msg.UUID,
		kind:           msg.Metadata.Get(headerType),
		source:         msg.Metadata.Get(headerSource),
		time:           msg.Metadata.Get(headerTime),
		idempotencyKey: msg.Metadata.Get(headerIdempotencyKey),
	}, msg.Payload)
}

// attributes are the headers that we know.
type attributes struct {
	id, kind, source, time, idempotencyKey string
}

func decode(a attributes, payload []byte) (Event, error) {
	name, ours := strings.CutPrefix(a.kind, typePrefix)
	if !ours && name == "" {
		return Event{}, fault.Poison(ReasonUndecodable, errors.New("no ce_type header"))
	}
	newData, known := factories[name]
	if !ours || !known {
		return Event{}, fmt.Errorf("%w %q", ErrUnknownType, name)
	}
	id, err := ParseID(a.id)
	if err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("ce_id: %w", err))
	}
	at, err := time.Parse(time.RFC3339Nano, a.time)
	if err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("ce_time: %w", err))
	}
	data := newData()
	if err := proto.Unmarshal(payload, data); err != nil {
		return Event{}, fault.Poison(ReasonUndecodable, fmt.Errorf("%s: %w", name, err))
	}
	if err := validate(data); err != nil {
		return Event{}, fault.Poison(ReasonInvalid, fmt.Errorf("%s: %w", name, err))
	}
	return Event{
		ID:             id,
		Time:           at,
		Source:         a.source,
		IdempotencyKey: a.idempotencyKey,
		Data:           data,
	}, nil
}

// maxStrings bounds what interned keeps: types and sources are few.
const maxStrings = 256

// interned keeps one copy of each of a few strings.
type interned struct {
	all map[string]string
	// last is the one before, which mostly comes again.
	last string
}

// of returns b as a string, without a new copy if it was seen before.
func (s *interned) of(b []byte) string {
	if s.last == string(b) {
		return s.last
	}
	s.last = s.look(b)
	return s.last
}

func (s *interned) look(b []byte) string {
	if one, ok := s.all[string(b)]; ok {
		return one
	}
	one := string(b)
	if len(s.all) < maxStrings && len(one) <= maxStrings {
		if s.all == nil {
			s.all = map[string]string{}
		}
		s.all[one] = one
	}
	return one
}
