// Package record says how a Watermill message looks as a Kafka record, how many
// records travel as one message, and where a message came from. It is shared by
// internal/kafka, which moves records, and by those who look inside: the batch
// sink, the poison middleware, the command line.
package record

import (
	"time"
	"unsafe"

	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	// KeyMetadata is the metadata entry that holds the partition key. It becomes
	// the record's key, not a header. Absent means no key: the record goes to any
	// partition and has no order. Empty is a key like any other.
	KeyMetadata = "partition_key"
	// IDHeader is the header that carries the message's UUID: the id attribute of
	// the CloudEvents 1.0 Kafka protocol binding.
	IDHeader = "ce_id"
)

// Record is one Kafka record without its topic.
type Record struct {
	// Key is the partition key; nil means none.
	Key []byte
	// Value is the payload.
	Value []byte
	// Headers are in the order of the log; names may repeat, the last one counts.
	Headers []Header
	// Offset is the place in the partition. Not set on records not yet written.
	Offset int64
	// Time is the record's timestamp, as the broker has it.
	Time time.Time
}

// Text returns b as a string that shares its memory: for who reads very many records
// and keeps nothing of them beyond b. Nobody may write to b as long as the string is used.
func Text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // this is what it is for
}

// Header is one header of a record.
type Header struct {
	Name  string
	Value []byte
}

// FromMessage returns the record of a message: metadata become headers.
func FromMessage(msg *message.Message) Record {
	r := Record{
		Value:   msg.Payload,
		Headers: make([]Header, 0, len(msg.Metadata)+1),
	}
	r.Headers = append(r.Headers, Header{IDHeader, []byte(msg.UUID)})
	for name, value := range msg.Metadata {
		switch name {
		case KeyMetadata:
			r.Key = []byte(value)
		case IDHeader:
		default:
			r.Headers = append(r.Headers, Header{name, []byte(value)})
		}
	}
	return r
}

// Message returns the message of a record. It cannot fail: whatever is in the
// record, the message has it, and the consumer decides what to do with it.
func (r Record) Message() *message.Message {
	var id string
	metadata := make(message.Metadata, len(r.Headers)+1)
	for _, h := range r.Headers {
		if h.Name == IDHeader {
			id = string(h.Value)
		} else {
			metadata[h.Name] = string(h.Value)
		}
	}
	if r.Key != nil {
		metadata[KeyMetadata] = string(r.Key)
	}
	msg := message.NewMessage(id, r.Value)
	msg.Metadata = metadata
	return msg
}
