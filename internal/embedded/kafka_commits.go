package embedded

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// checkCommits finds groups that have committed more than the log holds, which is
// what a lost end of the log looks like: a power cut without fsync, deleted
// files, or a partition that kfake started again at 0. Such a group would skip
// every new record up to its old offset, in silence. It is set back to the end of
// the log, where the next record will be.
func checkCommits(ctx context.Context, k *Kafka, admin *kadm.Client) error {
	commits, err := committed(ctx, admin)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list end offsets: %w", err)
	}
	for group, offsets := range commits {
		back := make(kadm.Offsets)
		offsets.Each(func(o kadm.OffsetResponse) {
			end, ok := ends.Lookup(o.Topic, o.Partition)
			if !ok || o.At <= end.Offset {
				return
			}
			k.log.Error("a group has committed more than the log holds: the end of the log was lost; the group is set back to the end",
				"group", group, "topic", o.Topic, "partition", o.Partition, "committed", o.At, "offset", end.Offset)
			back.AddOffset(o.Topic, o.Partition, end.Offset, -1)
		})
		if len(back) == 0 {
			continue
		}
		if err := admin.CommitAllOffsets(ctx, group, back); err != nil {
			return fmt.Errorf("set group %s back: %w", group, err)
		}
	}
	return nil
}

// committed is what every group has committed.
func committed(ctx context.Context, admin *kadm.Client) (map[string]kadm.OffsetResponses, error) {
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	all := make(map[string]kadm.OffsetResponses, len(groups))
	for _, group := range groups.Groups() {
		offsets, err := admin.FetchOffsets(ctx, group)
		if err == nil {
			err = offsets.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("offsets of group %s: %w", group, err)
		}
		all[group] = offsets
	}
	return all, nil
}
