package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"activityfeed/internal/fault"
)

// Rewind makes a group start again at the oldest record of the topic. The group
// must have no members, or the broker refuses. A group that never committed is
// at the oldest record already.
func (a *Admin) Rewind(ctx context.Context, group, topic string) error {
	op := fmt.Sprintf("rewind %s on %s", group, topic)
	committed, err := a.committed(ctx, group)
	if err != nil {
		return fault.Outage(op, err)
	}
	start, err := offsets(a.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return fault.Outage(op, err)
	}
	var rewound kadm.Offsets
	for partition, oldest := range start {
		if c, ok := committed.Lookup(topic, partition); ok && c.At > oldest {
			rewound.AddOffset(topic, partition, oldest, -1)
		}
	}
	if len(rewound) == 0 {
		return nil
	}
	return fault.Outage(op, a.adm.CommitAllOffsets(ctx, group, rewound))
}
