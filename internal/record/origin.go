package record

import (
	"context"
	"fmt"
	"time"
)

// Origin tells where a message came from. It travels in the message's context
// and is never written to a record.
type Origin struct {
	Topic string
	// TopicID tells two topics of one name apart (a topic deleted and made anew
	// restarts its offsets).
	TopicID   string
	Partition int32
	// Offset is the record's, or the first one's of a batch.
	Offset int64
	// LastOffset is the last record's of a batch; equal to Offset otherwise.
	LastOffset int64
	// Time is the record's timestamp.
	Time time.Time
	// Attempt counts the deliveries of this message by this process, from 1.
	Attempt int
}

// String returns topic/partition/offset, for logs and messages.
func (o Origin) String() string {
	return fmt.Sprintf("%s/%d/%d", o.Topic, o.Partition, o.Offset)
}

type originKey struct{}

// WithOrigin returns a context that carries o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns the origin of the message whose context this is; the zero
// Origin if the message came from no log.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
