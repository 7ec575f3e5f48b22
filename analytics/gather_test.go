package analytics

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// eachPartition hands a small batch of each of eight partitions to s at once.
func eachPartition(t *testing.T, s *sink, each int) {
	t.Helper()
	var all sync.WaitGroup
	for p := range 8 {
		all.Go(func() {
			if err := s.handleBatch(batchOf(t, 1, recordsOf(t, int64(1000*p), photos(100*p, 100*p+each-1)...)...)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// At rest every partition has a few events now and then: they share an insert.
func TestSmallInsertsShareAPart(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events")
	s, _ := newSink(t, &gatherer{inserter: table.store(), wait: time.Second})
	eachPartition(t, s, 25)
	eachPartition(t, s, 25) // the answers were lost: the same batches again
	if parts := table.count("SELECT count() FROM system.parts WHERE database = '{db}' AND table = 'events'"); parts > 4 {
		t.Errorf("16 inserts within seconds made %d parts, want one a second", parts)
	}
	table.wantPosts(200)
	if got := table.count("SELECT count() FROM {db}.events FINAL"); got != 200 {
		t.Errorf("%d rows, want 200", got)
	}
}

// An insert that was late does not make those after it late.
func TestALateInsertDelaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const little = time.Second / companions
		start := time.Now() // a full second
		g := &gatherer{inserter: accepting{}, wait: time.Second}
		for _, tt := range []struct {
			name          string
			come, inserts time.Duration // after start
		}{
			{"at the full second", 0, little},
			{"late", 1700 * time.Millisecond, 1700*time.Millisecond + little},
			{"at the next full second", 2 * time.Second, 2*time.Second + little},
			{"again in a second that had its insert", 2*time.Second + 2*little, 3*time.Second + little},
			{"where a little is in the next second", 4*time.Second - little/2, 4*time.Second + little/2},
		} {
			time.Sleep(time.Until(start.Add(tt.come)))
			if err := g.insert(t.Context(), tt.name, nil, 0, 1); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != tt.inserts {
				t.Errorf("what came %s, %v, was inserted after %v, want %v", tt.name, tt.come, got, tt.inserts)
			}
		}
	})
}

// accepting takes everything.
type accepting struct{}

func (accepting) insert(context.Context, string, block, int, int) error { return nil }

// A bad row takes nobody along with whom it travels.
func TestABadRowAmongOthersIsFound(t *testing.T) {
	t.Parallel()
	g := &gatherer{inserter: &refusing{}, wait: 50 * time.Millisecond}
	s, poison := newSink(t, g)
	eachPartition(t, s, 2) // ann and bob
	if got := len(poison.got); got != 8 {
		t.Errorf("%d records poisoned, want the 8 of bob", got)
	}
}

// refusing takes no row of bob's.
type refusing struct{}

func (refusing) insert(_ context.Context, _ string, r block, from, to int) error {
	blocks := []*member{{block: r, from: from, to: to}}
	if all, ok := r.(*joined); ok {
		blocks = all.members
	}
	for _, m := range blocks {
		for i := m.from; i < m.to; i++ {
			if m.block.(*rows).authorID[i] == "bob" {
				return &clickhouse.Exception{Code: 53, Message: "TYPE_MISMATCH"}
			}
		}
	}
	return nil
}
