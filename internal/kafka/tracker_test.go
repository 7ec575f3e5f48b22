package kafka

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQueueIsASlice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q fifo[int]
		var want []int
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				x := rapid.Int().Draw(t, "x")
				q.push(x)
				want = append(want, x)
			},
			"push front": func(t *rapid.T) {
				x := rapid.Int().Draw(t, "x")
				q.pushFront(x)
				want = slices.Insert(want, 0, x)
			},
			"pop": func(t *rapid.T) {
				if len(want) == 0 {
					t.Skip("empty")
				}
				if got := q.pop(); got != want[0] {
					t.Fatalf("pop() = %d, want %d", got, want[0])
				}
				want = want[1:]
			},
			"": func(t *rapid.T) {
				if q.len() != len(want) {
					t.Fatalf("len() = %d, want %d", q.len(), len(want))
				}
				for i, x := range want {
					if got := *q.at(i); got != x {
						t.Fatalf("at(%d) = %d, want %d", i, got, x)
					}
				}
			},
		})
	})
}

// The mark must stand right before the first unfinished record, whatever the
// order of acknowledgements and whatever gaps the log has.
func TestTrackerMarkStopsBeforeTheFirstUnfinished(t *testing.T) {
	t.Parallel()
	type tracked struct {
		offset int64
		seq    uint64
		done   bool
	}
	rapid.Check(t, func(t *rapid.T) {
		tr := tracker{mark: nowhere}
		var all []tracked
		offset := rapid.Int64Range(0, 100).Draw(t, "start")
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				offset += rapid.Int64Range(1, 3).Draw(t, "step")
				all = append(all, tracked{offset: offset, seq: tr.add(offset, 7, time.Time{})})
			},
			"finish": func(t *rapid.T) {
				var open []int
				for i := range all {
					if !all[i].done {
						open = append(open, i)
					}
				}
				if len(open) == 0 {
					t.Skip("all done")
				}
				first := rapid.SampledFrom(open).Draw(t, "first")
				n := 0
				for limit := rapid.IntRange(1, 4).Draw(t, "n"); n < limit && first+n < len(all) && !all[first+n].done; n++ {
					all[first+n].done = true
				}
				tr.finish(all[first].seq, n)
			},
			"": func(t *rapid.T) {
				want, unfinished, behind := int64(-1), 0, 0
				for _, r := range all {
					if !r.done {
						unfinished++
					}
					if unfinished == 0 {
						want = r.offset + 1
					} else {
						behind++
					}
				}
				if tr.mark.offset != want || tr.unfinished != unfinished || tr.span() != behind {
					t.Fatalf("mark %d, unfinished %d, span %d; want %d, %d, %d",
						tr.mark.offset, tr.unfinished, tr.span(), want, unfinished, behind)
				}
			},
		})
	})
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		attempt int
		want    time.Duration // at most; half of it at least
	}{
		{1, 100 * time.Millisecond},
		{2, 200 * time.Millisecond},
		{4, 800 * time.Millisecond},
		{5, time.Second},
		{1000, time.Second},
	} {
		for range 100 {
			got := backoff(tt.attempt, 100*time.Millisecond, time.Second)
			if got < tt.want/2 || got > tt.want {
				t.Errorf("backoff(%d) = %v, want %v to %v", tt.attempt, got, tt.want/2, tt.want)
			}
		}
	}
}

func TestParseIntent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, meta string
		want       *span
	}{
		{"an intent", "v1:10-20", &span{10, 20}},
		{"of one record", "v1:7-7", &span{7, 7}},
		{"none", "", nil},
		{"another client's metadata", "kgo-0f3c1d2e", nil},
		{"another version", "v2:1-2", nil},
		{"backwards", "v1:5-4", nil},
		{"negative", "v1:-5--4", nil},
		{"torn", "v1:5", nil},
		{"garbage", "v1:a-b", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parseIntent(tt.meta)
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("parseIntent(%q) = %v, want %v", tt.meta, got, tt.want)
			}
		})
	}
}
