package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/fault"
	"activityfeed/internal/record"
)

// Scan reads one partition, from its oldest record or an offset up to another, and no
// further: what a tool that needs the log of a moment, perhaps twice, works with.
// It joins no group and commits nothing.
type Scan struct {
	// Brokers are the addresses (host:port) to find the cluster through. Required.
	Brokers []string
	// Topic and Partition are what to read.
	Topic     string
	Partition int32
	// Begin is the offset of the first record to read. Zero, as anything before the
	// oldest record, is the oldest.
	Begin int64
	// End is the offset after the last record to read, see [Admin.EndOffsets].
	End int64
}

// Run calls fn for each record, in order, and returns when all were read, with the
// error of fn when it fails, or with that of ctx. While the brokers are away it
// waits. Records that the log drops meanwhile, by its retention, are left out.
func (s Scan) Run(ctx context.Context, log *slog.Logger, fn func(*message.Message) error) error {
	op := fmt.Sprintf("read %s/%d", s.Topic, s.Partition)
	client, err := kgo.NewClient(append(baseOptions(s.Brokers, defaultClientID, log),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.Topic: {s.Partition: kgo.NewOffset().At(s.Begin)}}),
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
	start, err := offsets(kadm.NewClient(client).ListStartOffsets(ctx, s.Topic))
	if err != nil {
		return fault.Outage(op, err)
	}
	for next := max(s.Begin, start[s.Partition]); next < s.End; {
		fetches := client.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.Canceled) {
				log.Warn("read the log", "topic", s.Topic, "partition", s.Partition, "err", failed.Err)
			}
		}
		var topicID [16]byte
		fetches.EachTopic(func(t kgo.FetchTopic) { topicID = t.TopicID })
		for _, r := range fetches.Records() {
			if next = r.Offset + 1; next > s.End || r.Attrs.IsControl() {
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
