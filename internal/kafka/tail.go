package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/fault"
	"activityfeed/internal/record"
)

// TailConfig sets up a [Tail].
type TailConfig struct {
	// Brokers are the addresses (host:port) to find the cluster through. Required.
	Brokers []string
	// ClientID names this client in the broker's logs. Default: "activityfeed".
	ClientID string
	// Topic is what to follow. Required.
	Topic string
	// From is where to begin. With StartNewest, partitions that the topic gets later
	// are not followed. Default: oldest.
	From Start
	// Since, if not zero, is the time of the first record to read, and From is not
	// looked at; partitions that the topic gets later are not followed.
	Since time.Time

	// options are further options of the client; tests replace its network.
	options []kgo.Opt
}

// whole says whether the Tail begins with the oldest record.
func (c TailConfig) whole() bool { return c.From == StartOldest && c.Since.IsZero() }

// Tail follows a whole topic without a group: each Tail sees every record, and
// nothing is committed.
type Tail struct {
	cfg TailConfig
	log *slog.Logger

	mu sync.Mutex
	// client is there while Run runs.
	client *kgo.Client
	// next holds the offset after the last record that fn has handled.
	next map[int32]int64
	// moved is closed, and made anew, when client or next change.
	moved chan struct{}
}

// NewTail returns a Tail; Run makes it follow.
func NewTail(cfg TailConfig, log *slog.Logger) *Tail {
	cfg.ClientID = cmp.Or(cfg.ClientID, defaultClientID)
	return &Tail{cfg: cfg, log: log, moved: make(chan struct{})}
}

// Run calls fn for the records of the topic, one at a time, those of a partition
// in their order, until ctx ends (then it returns nil) or fn fails (then it
// returns that error). If the topic's log begins anew, so does Run. It must not
// run twice at a time.
func (t *Tail) Run(ctx context.Context, fn func(*message.Message) error) error {
	client, next, err := t.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer client.Close()
	t.update(func() { t.client, t.next = client, next })
	defer t.update(func() { t.client = nil })
	for {
		fetches := client.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil {
			return nil
		}
		var failed error
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if failed == nil {
				failed = t.handle(ctx, p.Records, fn)
			}
		})
		if failed != nil {
			return failed
		}
		t.reportErrors(ctx, fetches)
	}
}

// connect returns the client and the offsets at which it begins, as far as they
// are known.
func (t *Tail) connect(ctx context.Context) (*kgo.Client, map[int32]int64, error) {
	opts := append(baseOptions(t.cfg.Brokers, t.cfg.ClientID, t.log),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(16<<20),
		// Markers of transactions take offsets, too, and CaughtUp counts offsets.
		kgo.KeepControlRecords(),
	)
	if t.cfg.whole() {
		opts = append(opts, kgo.ConsumeTopics(t.cfg.Topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	}
	client, err := kgo.NewClient(append(opts, t.cfg.options...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka: follow %s: %w", t.cfg.Topic, err)
	}
	next := make(map[int32]int64)
	if !t.cfg.whole() {
		if next, err = consumeSince(ctx, client, t.cfg.Topic, t.cfg.Since); err != nil {
			client.Close()
			return nil, nil, err
		}
	}
	return client, next, nil
}

// handle gives the records of one partition to fn.
func (t *Tail) handle(ctx context.Context, records []*kgo.Record, fn func(*message.Message) error) error {
	for _, r := range records {
		if !r.Attrs.IsControl() {
			msg := consumed(r).Message()
			msg.SetContext(record.WithOrigin(ctx, record.Origin{
				Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, LastOffset: r.Offset, Time: r.Timestamp, Attempt: 1,
			}))
			if err := fn(msg); err != nil {
				return fmt.Errorf("handle %s/%d/%d: %w", r.Topic, r.Partition, r.Offset, err)
			}
		}
	}
	if len(records) > 0 {
		last := records[len(records)-1]
		t.update(func() { t.next[last.Partition] = last.Offset + 1 })
	}
	return nil
}

// CaughtUp returns when fn has handled all that was in the log at the call. It
// waits for Run to begin if need be, and ends with ctx.
func (t *Tail) CaughtUp(ctx context.Context) error {
	var missing map[int32]int64
	for {
		t.mu.Lock()
		client, moved := t.client, t.moved
		for partition, end := range missing {
			if t.next[partition] >= end {
				delete(missing, partition)
			}
		}
		t.mu.Unlock()
		switch {
		case client == nil:
			// Run has not begun, or is over and may begin again.
		case missing == nil:
			var err error
			if missing, err = t.inLog(ctx, client); err != nil {
				return err
			}
			continue
		case len(missing) == 0:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("catch up with %s: %w", t.cfg.Topic, ctx.Err())
		}
	}
}

// inLog returns the end offsets of the partitions in which there is something.
func (t *Tail) inLog(ctx context.Context, client *kgo.Client) (map[int32]int64, error) {
	op := "catch up with " + t.cfg.Topic
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	adm := kadm.NewClient(client)
	end, err := offsets(adm.ListEndOffsets(ctx, t.cfg.Topic))
	if err != nil {
		return nil, fault.Outage(op, err)
	}
	start, err := offsets(adm.ListStartOffsets(ctx, t.cfg.Topic))
	if err != nil {
		return nil, fault.Outage(op, err)
	}
	for partition, offset := range end {
		if offset <= start[partition] {
			delete(end, partition)
		}
	}
	return end, nil
}

// update changes the state and tells those who wait in CaughtUp.
func (t *Tail) update(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *Tail) reportErrors(ctx context.Context, fetches kgo.Fetches) {
	failed := false
	fetches.EachError(func(_ string, partition int32, err error) {
		if !errors.Is(err, context.Canceled) {
			failed = true
			t.log.Error("follow the log", "topic", t.cfg.Topic, "partition", partition, "err", err)
		}
	})
	if failed && fetches.NumRecords() == 0 {
		wait(ctx.Done(), time.Second/4)
	}
}
