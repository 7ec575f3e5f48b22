package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/record"
)

// Scanner reads parts of topics, and as an [Admin] tells where these begin and end:
// what a tool that needs the log of a moment, perhaps twice, works with. It joins no
// group and commits nothing. It is safe for concurrent use.
type Scanner struct {
	*Admin

	brokers []string
	log     *slog.Logger
}

// NewScanner returns a Scanner. It does not connect.
func NewScanner(brokers []string, log *slog.Logger) (*Scanner, error) {
	admin, err := NewAdmin(brokers)
	if err != nil {
		return nil, err
	}
	return &Scanner{admin, brokers, log}, nil
}

// Scan calls fn for each record of a partition from begin, or from the oldest one if
// that is gone, up to end, which is not read. It returns when all were read, with the
// error of fn when it fails, or with that of ctx. While the brokers are away it waits.
// Records that the log drops meanwhile, by its retention, are left out.
func (s *Scanner) Scan(ctx context.Context, topic string, partition int32, begin, end int64, fn func(*message.Message) error) error {
	op := fmt.Sprintf("read %s/%d", topic, partition)
	client, err := kgo.NewClient(append(baseOptions(s.brokers, defaultClientID, s.log),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(begin)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(16<<20),
		// Markers of transactions take offsets, too.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return fmt.Errorf("kafka: %s: %w", op, err)
	}
	defer client.Close()
	// Where nothing is left of what was there, nothing comes.
	start, err := s.StartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	for next := max(begin, start[partition]); next < end; {
		fetches := client.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.Canceled) {
				s.log.Warn("read the log", "topic", topic, "partition", partition, "err", failed.Err)
			}
		}
		var topicID [16]byte
		fetches.EachTopic(func(t kgo.FetchTopic) { topicID = t.TopicID })
		for _, r := range fetches.Records() {
			if next = r.Offset + 1; next > end || r.Attrs.IsControl() {
				continue
			}
			msg := consumed(r).Message()
			msg.SetContext(record.WithOrigin(ctx, record.Origin{
				Topic: r.Topic, TopicID: hex.EncodeToString(topicID[:]), Partition: r.Partition, Offset: r.Offset, LastOffset: r.Offset, Time: r.Timestamp, Attempt: 1,
			}))
			if err := fn(msg); err != nil {
				return fmt.Errorf("handle %s/%d/%d: %w", r.Topic, r.Partition, r.Offset, err)
			}
		}
	}
	return nil
}
