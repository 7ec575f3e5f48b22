package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// cleanLoop removes old records until ctx ends.
func (k *Kafka) cleanLoop(ctx context.Context) {
	if k.cfg.MaxAge == 0 {
		return
	}
	tick := time.NewTicker(k.cfg.CleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n, err := k.Clean(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("could not remove old records, trying again later", "err", err)
		} else if n > 0 {
			k.log.Info("removed old records", "records", n)
		}
	}
}

// Clean removes, once and now, the records that are older than MaxAge and that
// every group has passed, and returns how many. The last record of a partition
// stays: a partition without any would begin again at offset 0 after a restart,
// behind the backs of its groups. Space comes back in whole log files.
//
// This is instead of the retention settings of a topic, which are not to be used
// here: they empty partitions, and stop working after a restart.
func (k *Kafka) Clean(ctx context.Context) (int64, error) {
	if k.cfg.MaxAge == 0 {
		return 0, nil
	}
	var removed int64
	err := k.asAdmin(ctx, func(ctx context.Context, k *Kafka, admin *kadm.Client) (err error) {
		removed, err = k.clean(ctx, admin)
		return err
	})
	if err != nil {
		err = fmt.Errorf("clean: %w", err)
	}
	return removed, err
}

func (k *Kafka) clean(ctx context.Context, admin *kadm.Client) (int64, error) {
	starts, err1 := admin.ListStartOffsets(ctx)
	ends, err2 := admin.ListEndOffsets(ctx)
	young, err3 := admin.ListOffsetsAfterMilli(ctx, k.cfg.Now().Add(-k.cfg.MaxAge).UnixMilli())
	commits, err4 := committed(ctx, admin)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return 0, err
	}
	var removed int64
	var errs []error
	starts.Each(func(start kadm.ListedOffset) {
		end, ok1 := ends.Lookup(start.Topic, start.Partition)
		keep, ok2 := young.Lookup(start.Topic, start.Partition)
		if err := errors.Join(start.Err, end.Err, keep.Err); err != nil || !ok1 || !ok2 {
			errs = append(errs, err)
			return
		}
		limit := min(keep.Offset, end.Offset-1, k.passed(start.Topic, start.Partition, end.Offset, commits))
		if limit <= start.Offset {
			return
		}
		if err := k.cluster.DeleteRecords(start.Topic, start.Partition, limit); err != nil {
			errs = append(errs, fmt.Errorf("%s/%d up to %d: %w", start.Topic, start.Partition, limit, err))
			return
		}
		removed += limit - start.Offset
	})
	return removed, errors.Join(errs...)
}

// passed is the offset up to which every group of the topic has come; the end of
// the log when no group reads it.
func (k *Kafka) passed(topic string, partition int32, end int64, commits map[string]kadm.OffsetResponses) int64 {
	low := end
	for group, offsets := range commits {
		if o, ok := offsets.Lookup(topic, partition); ok {
			low = min(low, o.At)
		} else if slices.Contains(k.cfg.Groups[topic], group) {
			return 0
		}
	}
	for _, group := range k.cfg.Groups[topic] {
		if _, ok := commits[group]; !ok {
			return 0
		}
	}
	return low
}
