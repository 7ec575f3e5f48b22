package rebuild

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
)

// Topics are the topics of the log (a kafka.Scanner).
type Topics interface {
	// StartOffsets and EndOffsets return where the partitions of a topic begin and end.
	StartOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	EndOffsets(ctx context.Context, topic string) (map[int32]int64, error)
	// Scan gives fn the records of a partition from an offset, or the oldest one if that
	// is gone, up to another, and returns the error of fn when it fails.
	Scan(ctx context.Context, topic string, partition int32, begin, end int64, fn func(*message.Message) error) error
}

// extent is where the partitions of a topic begin and end, and how many records lie
// between.
type extent struct {
	starts, ends map[int32]int64
	records      int64
}

func extentOf(ctx context.Context, topics Topics, topic string) (extent, error) {
	starts, err := topics.StartOffsets(ctx, topic)
	if err != nil {
		return extent{}, err
	}
	ends, err := topics.EndOffsets(ctx, topic)
	if err != nil {
		return extent{}, err
	}
	e := extent{starts: starts, ends: ends}
	for partition, end := range ends {
		e.records += end - starts[partition]
	}
	return e, nil
}

// leaveOut counts a fact that cannot be taken, and says which it is.
func (r *Result) leaveOut(log *slog.Logger, id string, err error) {
	if errors.Is(err, event.ErrUnknownType) {
		r.Unknown++
		return
	}
	r.Bad++
	log.Debug("rebuild leaves a record out", "event_id", id, "err", err)
}

// steps is what is done at the moment, for the progress line.
type steps struct{ now atomic.Pointer[string] }

func (s *steps) tell(step string) { s.now.Store(&step) }

func (s *steps) note() string {
	if step := s.now.Load(); step != nil {
		return *step
	}
	return ""
}
