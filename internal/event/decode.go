package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/fault"
	"activityfeed/internal/record"
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

// DecodeRecord is [Decode] for a record that never was a message: it makes no map
// of its headers. known keeps strings that come again and again.
func DecodeRecord(r record.Record, known *Strings) (Event, error) {
	var a attributes
	for _, h := range r.Headers {
		switch h.Name { // the last one of a name counts
		case record.IDHeader:
			a.id = string(h.Value)
		case headerType:
			a.kind = known.of(h.Value)
		case headerSource:
			a.source = known.of(h.Value)
		case headerTime:
			a.time = string(h.Value)
		case headerIdempotencyKey:
			a.idempotencyKey = string(h.Value)
		}
	}
	return decode(a, r.Value)
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

// maxStrings bounds what [Strings] keeps: types and sources are few.
const maxStrings = 256

// Strings keeps one copy of each of a few strings. The zero value is ready; it is
// not for concurrent use.
type Strings struct{ all map[string]string }

// of returns b as a string, without a new copy if it was seen before.
func (s *Strings) of(b []byte) string {
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
