package event_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/event"
)

func newIDs(t *testing.T, node int, now func() time.Time) *event.IDs {
	t.Helper()
	ids, err := event.NewIDs(node, now)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestIDsGrowWhateverTheClockDoes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// step moves the clock before the i-th id.
		step func(i int) time.Duration
		// drift is how far the last id may be from the furthest clock.
		drift time.Duration
	}{
		{"clock runs", func(int) time.Duration { return time.Millisecond }, 0},
		{"clock stands: 4,096 ids a millisecond, then it counts on", func(int) time.Duration { return 0 }, 3 * time.Millisecond},
		{"clock steps back an hour", func(i int) time.Duration {
			if i == 5000 {
				return -time.Hour
			}
			return time.Millisecond
		}, 3 * time.Millisecond},
		{"clock trembles", func(i int) time.Duration { return time.Duration(i%3-1) * time.Millisecond }, 3 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
			furthest := clock
			ids := newIDs(t, 7, func() time.Time { return clock })
			var last event.ID
			for i := range 3 * 4096 {
				clock = clock.Add(tt.step(i))
				if clock.After(furthest) {
					furthest = clock
				}
				id := ids.Next()
				if id <= last {
					t.Fatalf("id %d after %d, at step %d", id, last, i)
				}
				if s := id.String(); len(s) != 19 {
					t.Fatalf("id %s has %d digits", s, len(s))
				}
				last = id
			}
			if drift := last.Time().Sub(furthest); drift < 0 || drift > tt.drift {
				t.Errorf("the last id is %s from the clock, want at most %s", drift, tt.drift)
			}
		})
	}
}

func TestIDsAreUniqueAcrossGoroutinesAndNodes(t *testing.T) {
	t.Parallel()
	const perWorker = 2000
	now := func() time.Time { return time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC) }
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []event.ID
	)
	for _, node := range []int{0, 1, 1023} {
		ids := newIDs(t, node, now)
		for range 4 {
			wg.Go(func() {
				mine := make([]event.ID, perWorker)
				for i := range mine {
					mine[i] = ids.Next()
				}
				if !slices.IsSorted(mine) {
					t.Error("a goroutine saw ids out of order")
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
			})
		}
	}
	wg.Wait()
	slices.Sort(all)
	if got, want := len(slices.Compact(all)), 3*4*perWorker; got != want {
		t.Errorf("%d distinct ids, want %d", got, want)
	}
}

// Strings sort as ids and times do: what the API and Redis rely on.
func TestIDsSortAsTheirStringsFrom2022To2084(t *testing.T) {
	t.Parallel()
	moments := []time.Time{
		time.Date(2022, 8, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		time.Date(2026, 11, 22, 12, 0, 0, 1e6, time.UTC),
		time.Date(2026, 11, 22, 12, 0, 1, 0, time.UTC),
		time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2084, 8, 31, 0, 0, 0, 0, time.UTC),
	}
	var last string
	for _, at := range moments {
		first := event.FirstID(at)
		id := newIDs(t, 1023, func() time.Time { return at }).Next()
		s := id.String()
		if len(s) != 19 || s <= last {
			t.Errorf("id of %s = %s, after %s", at, s, last)
		}
		if !id.Time().Equal(at) || !first.Time().Equal(at) {
			t.Errorf("times of the ids of %s are %s and %s", at, id.Time(), first.Time())
		}
		if first > id || event.FirstID(at.Add(time.Millisecond)) <= id {
			t.Errorf("id %d is not between the first ids of its millisecond and the next", id)
		}
		if parsed, err := event.ParseID(s); err != nil || parsed != id {
			t.Errorf("ParseID(%q) = %d, %v", s, parsed, err)
		}
		last = s
	}
}

func TestParseIDRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in string }{
		{"empty", ""},
		{"18 digits", strings.Repeat("1", 18)},
		{"20 digits", strings.Repeat("1", 20)},
		{"leading zero", "0" + strings.Repeat("1", 18)},
		{"sign", "+" + strings.Repeat("1", 18)},
		{"negative", "-" + strings.Repeat("1", 19)},
		{"above 63 bits", "9999999999999999999"},
		{"letters", "1000000000000000abc"},
		{"space", " 100000000000000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if id, err := event.ParseID(tt.in); err == nil {
				t.Errorf("ParseID(%q) = %d", tt.in, id)
			}
		})
	}
}

func TestNewIDsRefusesNodes(t *testing.T) {
	t.Parallel()
	for _, node := range []int{-1, 1024} {
		if _, err := event.NewIDs(node, time.Now); err == nil {
			t.Errorf("NewIDs(%d) succeeds", node)
		}
	}
}
