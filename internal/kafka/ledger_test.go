package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// ledger writes down what handlers do and complains when the promises break:
//
//   - every record is handled at least once (unhandled);
//   - a key is never handled twice at a time, nor backwards within one ownership
//     (begin);
//   - what is committed is never past the first unfinished record and never goes
//     back (committed), and is written by no one whose partition somebody else was
//     given (watch).
type ledger struct {
	mu     sync.Mutex
	faults []string

	finished map[int32]map[int64]bool
	running  map[string]map[*handling]bool // by key
	last     map[place]int64               // the last offset begun
	group    map[int32]int64               // what is committed
	batches  map[int32]map[int64]int64     // first and last offset of each batch
	present  []string                      // the group's members, if they can be watched
	begun    int
	overlaps int // allowed ones: after a drain that was too short, a kill or an expulsion
}

// place is a key within one ownership.
type place struct {
	ownership any
	key       string
}

// handling is one run of a handler.
type handling struct {
	ctx    context.Context
	by     *member
	origin record.Origin
	key    string
	keyed  bool
}

func newLedger() *ledger {
	return &ledger{
		finished: make(map[int32]map[int64]bool),
		running:  make(map[string]map[*handling]bool),
		last:     make(map[place]int64),
		group:    make(map[int32]int64),
		batches:  make(map[int32]map[int64]int64),
	}
}

func (l *ledger) faultf(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// begin notes that a handler starts.
func (l *ledger) begin(by *member, msg *message.Message) *handling {
	h := &handling{ctx: msg.Context(), by: by, origin: record.OriginOf(msg.Context())}
	h.key, h.keyed = msg.Metadata[record.KeyMetadata]
	ownership := by.sub.Ownership(h.origin.Partition)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	if by.batches {
		l.batch(h)
	}
	if !h.keyed || h.over() {
		return h
	}
	// Who was starved past its session, and does not know it yet, may be either one.
	zombie := l.expelled(by)
	for other := range l.running[h.key] {
		if zombie || other.over() || l.expelled(other.by) {
			l.overlaps++
		} else {
			l.faultf("key %q: %s starts %v while %s handles %v", h.key, by.name, h.origin, other.by.name, other.origin)
		}
	}
	if l.running[h.key] == nil {
		l.running[h.key] = make(map[*handling]bool)
	}
	l.running[h.key][h] = true
	at := place{ownership, h.key}
	if before, ok := l.last[at]; ok && h.origin.Offset < before {
		l.faultf("key %q: %s starts %v after offset %d", h.key, by.name, h.origin, before)
	}
	l.last[at] = h.origin.Offset
	return h
}

// batch holds the bounds of a batch against those of all others: they are the same
// ones, or apart.
func (l *ledger) batch(h *handling) {
	first, last := h.origin.Offset, h.origin.LastOffset
	known := l.batches[h.origin.Partition]
	if known == nil {
		known = make(map[int64]int64)
		l.batches[h.origin.Partition] = known
	}
	for f, e := range known {
		if (f != first || e != last) && f <= last && first <= e {
			l.faultf("partition %d: %s gets the batch %d-%d, there was %d-%d", h.origin.Partition, h.by.name, first, last, f, e)
		}
	}
	known[first] = last
}

// over tells that the handling no longer counts: its time was up, or its process
// is dead.
func (h *handling) over() bool { return h.ctx.Err() != nil || h.by.dead.Load() }

// expelled tells that the group went on without a member, which may not know it
// yet. Member ids begin with the client's.
func (l *ledger) expelled(m *member) bool {
	return l.present != nil && !slices.ContainsFunc(l.present, func(id string) bool { return strings.HasPrefix(id, m.name+"-") })
}

// end notes that a handler is done; acked is whether it will acknowledge.
func (l *ledger) end(h *handling, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running[h.key], h)
	if acked { // the work is done, whether or not anybody hears of it
		l.finish(h.origin)
	}
}

func (l *ledger) finish(o record.Origin) {
	done := l.finished[o.Partition]
	if done == nil {
		done = make(map[int64]bool)
		l.finished[o.Partition] = done
	}
	for offset := o.Offset; offset <= o.LastOffset; offset++ {
		done[offset] = true
	}
}

// unfinished returns the first unfinished offset of a partition. The caller holds
// mu.
func (l *ledger) unfinished(partition int32) int64 {
	offset := l.group[partition]
	for l.finished[partition][offset] {
		offset++
	}
	return offset
}

// committed holds a commit against what is finished.
func (l *ledger) committed(partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.unfinished(partition); offset > first {
		l.faultf("partition %d: committed %d past the unfinished %d", partition, offset, first)
		return // the next first unfinished would be a lie
	}
	if offset < l.group[partition] {
		l.faultf("partition %d: committed %d after %d", partition, offset, l.group[partition])
	}
	l.group[partition] = offset
}

// unhandled returns how many records of a log with these end offsets are not
// finished.
func (l *ledger) unhandled(end map[int32]int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	for partition, e := range end {
		for offset := range e {
			if !l.finished[partition][offset] {
				missing++
			}
		}
	}
	return missing
}

// allCommitted tells whether everything up to these end offsets is committed.
func (l *ledger) allCommitted(end map[int32]int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Equal(l.group, end)
}

func (l *ledger) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.faults {
		if i == 20 {
			t.Errorf("and %d more", len(l.faults)-i)
			break
		}
		t.Error(f)
	}
	t.Logf("%d handlings, %d overlaps after a drain or a kill", l.begun, l.overlaps)
}

// watch looks at every commit as it reaches kfake, before the broker does, and at
// who is given what.
func (l *ledger) watch(fake *kfake.Cluster) {
	latest, owners := int32(-1), make(map[int32]string)
	fake.ControlKey(int16(kmsg.SyncGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		sync := req.(*kmsg.SyncGroupRequest)
		if len(sync.GroupAssignment) == 0 {
			return nil, nil, false // only the leader says who gets what
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		latest, owners, l.present = sync.Generation, make(map[int32]string), nil
		for _, member := range sync.GroupAssignment {
			l.present = append(l.present, member.MemberID)
			var a kmsg.ConsumerMemberAssignment
			if a.ReadFrom(member.MemberAssignment) != nil {
				continue // it is given nothing
			}
			for _, topic := range a.Topics {
				for _, partition := range topic.Partitions {
					owners[partition] = member.MemberID
				}
			}
		}
		return nil, nil, false
	})
	fake.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		commit := req.(*kmsg.OffsetCommitRequest)
		l.mu.Lock()
		defer l.mu.Unlock()
		if commit.Generation != latest {
			return nil, nil, false // the broker refuses it
		}
		for _, topic := range commit.Topics {
			for _, p := range topic.Partitions {
				if owner := owners[p.Partition]; owner != "" && owner != commit.MemberID {
					l.faultf("partition %d: committed by %s, owned by %s", p.Partition, commit.MemberID, owner)
				}
			}
		}
		return nil, nil, false
	})
}

// poll looks at what the group has. One goroutine at a time may call it, so that
// what it sees is in order.
func (l *ledger) poll(ctx context.Context, admin *kafka.Admin, group, topic string) error {
	committed, err := admin.Committed(ctx, group, topic)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	for _, partition := range slices.Sorted(maps.Keys(committed)) {
		l.committed(partition, committed[partition])
	}
	return err
}
