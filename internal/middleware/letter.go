package middleware

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
)

// The headers of a letter. They are prefixed so that they cannot meet a header
// of the original.
const (
	headerPrefix       = "poison_"
	headerID           = headerPrefix + "id"
	headerReplays      = headerPrefix + "replays"
	headerService      = headerPrefix + "service"
	headerReason       = headerPrefix + "reason"
	headerError        = headerPrefix + "error"
	headerTopic        = headerPrefix + "topic"
	headerTopicID      = headerPrefix + "topic_id"
	headerPartition    = headerPrefix + "partition"
	headerOffset       = headerPrefix + "offset"
	headerTime         = headerPrefix + "time"
	headerAttempts     = headerPrefix + "attempts"
	headerFirstFailure = headerPrefix + "first_failure"
	// headerPartitionKey is the original's key; absent if it had none.
	headerPartitionKey = headerPrefix + "partition_key"
	// headerNull marks an original without a value: a letter with a null value
	// would be a tombstone.
	headerNull = headerPrefix + "null_payload"
)

// MaxLetterError is how much of an error's text a letter keeps, in bytes.
const MaxLetterError = 1024

// ErrForeign says that a record of a poison topic is not one of ours.
var ErrForeign = errors.New("middleware: record is neither a letter nor a tombstone")

// Letter is one event that a service could not process, as it lies in the topic
// `<service>.poison`: the original payload and headers, untouched, plus headers
// that tell what happened. The policies of this package write letters,
// internal/poison reads them.
//
// The record's key is the letter's id and, after a replay, its generation:
// "1700000000000000000", then "1700000000000000000#1". A repeat of one generation
// collapses into one letter, and the tombstone that ends a generation can never
// hide the next one, whichever of the two reaches the log first.
type Letter struct {
	// ID names the event over all its generations: the event id, or
	// topic/partition/offset of a record that has none.
	ID string
	// Replays counts how often the event was sent back to the service.
	Replays int
	// Service is who could not process it: "feed".
	Service string
	// Reason is a short fixed word: "undecodable", "invalid", "panic", "exhausted".
	Reason string
	// Error is the error's text: printable, valid UTF-8, at most [MaxLetterError] bytes.
	Error string
	// Origin is where the event lay at first; replays do not change it. Attempt
	// is the number of deliveries before the service gave up.
	Origin record.Origin
	// FirstFailure is when the service failed on it for the first time, as far
	// as the process that gave up knows.
	FirstFailure time.Time
	// Original is the event as it came: id, headers, partition key, payload.
	Original *message.Message
}

// NewLetter returns the letter of msg, which came from origin. A message that came
// from a replay keeps the id, origin, first failure and replay count of its
// earlier letter.
func NewLetter(msg *message.Message, origin record.Origin) Letter {
	earlier := readHeaders(msg.Metadata)
	l := Letter{ID: earlier.ID, Replays: earlier.Replays, Origin: origin, FirstFailure: earlier.FirstFailure}
	if l.ID == "" {
		l.ID = newID(msg, origin)
	} else {
		attempt := origin.Attempt
		l.Origin = earlier.Origin
		l.Origin.Attempt = attempt
	}
	l.Original = message.NewMessage(msg.UUID, msg.Payload)
	maps.Copy(l.Original.Metadata, msg.Metadata)
	stripHeaders(l.Original.Metadata)
	return l
}

// letterID returns the id that a letter of msg would have.
func letterID(msg *message.Message, origin record.Origin) string {
	if id := msg.Metadata[headerID]; id != "" {
		return id
	}
	return newID(msg, origin)
}

// newID takes the event id only if it is one: a producer that writes "1" into
// every record must not fold them all into one letter.
func newID(msg *message.Message, origin record.Origin) string {
	if _, err := event.ParseID(msg.UUID); err == nil {
		return msg.UUID
	}
	if origin.Topic != "" && origin.LastOffset <= origin.Offset {
		return origin.String()
	}
	// From nowhere, or from somewhere in a batch: what is in it must tell.
	sum := sha256.Sum256(append([]byte(msg.UUID+"\x00"), msg.Payload...))
	content := hex.EncodeToString(sum[:12])
	if origin.Topic != "" {
		return origin.String() + "/" + content
	}
	return "unknown/" + content
}

// Key returns the key of the letter's record and of its tombstone.
func (l Letter) Key() string {
	if l.Replays == 0 {
		return l.ID
	}
	return l.ID + "#" + strconv.Itoa(l.Replays)
}

// Message returns the record for the poison topic.
func (l Letter) Message() *message.Message {
	msg := message.NewMessage(l.Original.UUID, l.Original.Payload)
	maps.Copy(msg.Metadata, l.Original.Metadata)
	delete(msg.Metadata, record.KeyMetadata)
	if key, ok := l.Original.Metadata[record.KeyMetadata]; ok {
		msg.Metadata[headerPartitionKey] = key
	}
	if msg.Payload == nil {
		msg.Payload = []byte{}
		msg.Metadata[headerNull] = "true"
	}
	l.writeHeaders(msg.Metadata)
	msg.Metadata[record.KeyMetadata] = l.Key()
	msg.Metadata[headerService] = l.Service
	msg.Metadata[headerReason] = l.Reason
	msg.Metadata[headerError] = l.Error
	msg.Metadata[headerAttempts] = strconv.Itoa(l.Origin.Attempt)
	return msg
}

// Replay returns the original for the service's retry topic, one generation on.
func (l Letter) Replay() *message.Message {
	msg := message.NewMessage(l.Original.UUID, l.Original.Payload)
	maps.Copy(msg.Metadata, l.Original.Metadata)
	l.Replays++
	l.writeHeaders(msg.Metadata)
	return msg
}

// Tombstone returns the record that ends this generation of the letter.
func (l Letter) Tombstone() *message.Message {
	msg := message.NewMessage(l.Original.UUID, nil)
	msg.Metadata[record.KeyMetadata] = l.Key()
	return msg
}

// ParseLetter reads a record of a poison topic. For a tombstone it returns a letter
// with id and replay count alone and tombstone = true.
func ParseLetter(msg *message.Message) (l Letter, tombstone bool, err error) {
	key, ok := msg.Metadata[record.KeyMetadata]
	if !ok || key == "" {
		return Letter{}, false, ErrForeign
	}
	reason, isLetter := msg.Metadata[headerReason]
	if !isLetter {
		if len(msg.Payload) > 0 {
			return Letter{}, false, ErrForeign
		}
		id, generation, _ := strings.Cut(key, "#")
		replays, _ := strconv.Atoi(generation)
		return Letter{ID: id, Replays: replays, Original: message.NewMessage(msg.UUID, nil)}, true, nil
	}
	l = readHeaders(msg.Metadata)
	l.Service, l.Reason, l.Error = msg.Metadata[headerService], reason, msg.Metadata[headerError]
	l.Origin.Attempt, _ = strconv.Atoi(msg.Metadata[headerAttempts])
	l.Original = message.NewMessage(msg.UUID, msg.Payload)
	maps.Copy(l.Original.Metadata, msg.Metadata)
	delete(l.Original.Metadata, record.KeyMetadata)
	if key, ok := msg.Metadata[headerPartitionKey]; ok {
		l.Original.Metadata[record.KeyMetadata] = key
	}
	if msg.Metadata[headerNull] != "" {
		l.Original.Payload = nil
	}
	stripHeaders(l.Original.Metadata)
	return l, false, nil
}

// writeHeaders writes what a letter and a replay have in common.
func (l Letter) writeHeaders(metadata message.Metadata) {
	metadata[headerID] = l.ID
	metadata[headerReplays] = strconv.Itoa(l.Replays)
	metadata[headerTopic] = l.Origin.Topic
	metadata[headerTopicID] = l.Origin.TopicID
	metadata[headerPartition] = strconv.Itoa(int(l.Origin.Partition))
	metadata[headerOffset] = strconv.FormatInt(l.Origin.Offset, 10)
	metadata[headerTime] = l.Origin.Time.UTC().Format(time.RFC3339Nano)
	metadata[headerFirstFailure] = l.FirstFailure.UTC().Format(time.RFC3339Nano)
}

// readHeaders is lenient: a number that is none reads as zero, because a letter
// that cannot be shown could not be dropped either.
func readHeaders(metadata message.Metadata) Letter {
	l := Letter{ID: metadata[headerID]}
	l.Replays, _ = strconv.Atoi(metadata[headerReplays])
	l.Origin.Topic, l.Origin.TopicID = metadata[headerTopic], metadata[headerTopicID]
	partition, _ := strconv.ParseInt(metadata[headerPartition], 10, 32)
	l.Origin.Partition = int32(partition)
	l.Origin.Offset, _ = strconv.ParseInt(metadata[headerOffset], 10, 64)
	l.Origin.LastOffset = l.Origin.Offset
	l.Origin.Time, _ = time.Parse(time.RFC3339Nano, metadata[headerTime])
	l.FirstFailure, _ = time.Parse(time.RFC3339Nano, metadata[headerFirstFailure])
	return l
}

func stripHeaders(metadata message.Metadata) {
	maps.DeleteFunc(metadata, func(name, _ string) bool { return strings.HasPrefix(name, headerPrefix) })
}
