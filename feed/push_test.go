package feed

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"activityfeed/internal/event"
)

// seconds returns the id of a post that was made that long before some moment.
func seconds(ago float64) event.ID {
	moment := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	return event.FirstID(moment.Add(-time.Duration(ago * float64(time.Second))))
}

// store puts a list of posts into Redis, and its last entry if that is none.
func (w *world) store(ctx context.Context, feed string, ids []event.ID, end string) error {
	pipe := w.raw.Pipeline()
	pipe.Del(ctx, feed)
	for _, id := range ids {
		pipe.RPush(ctx, feed, id.String())
	}
	if end != "" {
		pipe.RPush(ctx, feed, end)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// checkBound checks what doc.go proves of a list.
func checkBound(ids []event.ID) error {
	oldest := event.ID(math.MaxInt64)
	for _, id := range ids {
		if oldest < id && id.Time().Sub(oldest.Time()) >= disorder {
			return fmt.Errorf("%v stands in front of %v, which is newer by %v", oldest, id, id.Time().Sub(oldest.Time()))
		}
		oldest = min(oldest, id)
	}
	return nil
}

func TestCarefulPushes(t *testing.T) {
	t.Parallel()
	// Posts every ten seconds: post i is 10 i seconds old.
	sorted := make([]float64, 300)
	for i := range sorted {
		sorted[i] = float64(10 * i)
	}
	with := func(list []float64, at int, more ...float64) []float64 {
		return slices.Insert(slices.Clone(list), at, more...)
	}
	// From 500 to 700 s neighbours are 80 s out of order.
	stretch := slices.Clone(sorted)
	for i := 50; i < 70; i += 2 {
		stretch[i], stretch[i+1] = stretch[i]+50, stretch[i+1]-40
	}
	const marker = "BMARKER"
	rows := []struct {
		name   string
		list   []float64 // how many seconds ago the entries were made
		end    string
		late   float64
		repeat bool
		// rest is the list without the post, at where the post may lie in it: nowhere
		// if there is none.
		rest []float64
		at   []int
	}{
		{"newer than all", sorted, sentinel, -5, false, sorted, []int{0}},
		{"one newer", sorted, sentinel, 5, false, sorted, []int{1}},
		{"near the head", sorted, sentinel, 85, false, sorted, []int{9}},
		{"behind the first look", sorted, sentinel, 95, false, sorted, []int{10}},
		{"deep", sorted, sentinel, 1555, false, sorted, []int{156}},
		{"deeper", sorted, sentinel, 2785, false, sorted, []int{279}},
		{"behind the second look of a short list", sorted[:40], sentinel, 305, false, sorted[:40], []int{31}},
		{"a short list", sorted[:3], sentinel, 15, false, sorted[:3], []int{2}},
		{"before the sentinel", sorted, sentinel, 3000, false, sorted, []int{300}},
		{"before the sentinel of a short list", sorted[:3], sentinel, 3000, false, sorted[:3], []int{3}},
		{"before the sentinel alone", nil, sentinel, 3000, false, nil, []int{0}},
		{"before the marker of a builder", sorted, marker, 3000, false, sorted, []int{300}},
		{"before the marker alone", nil, marker, 3000, false, nil, []int{0}},
		{"a list that is being built", sorted, marker, 1555, false, sorted, []int{156}},
		{"a trimmed list", sorted, "", 1555, false, sorted, []int{156}},
		{"before the last of a trimmed list", sorted, "", 2985, false, sorted, []int{299}},
		{"behind a trimmed list", sorted, "", 2995, false, sorted, nil},
		{"behind a short trimmed list", sorted[:3], "", 25, false, sorted[:3], nil},
		{"a cold feed", nil, "", 25, false, nil, nil},

		{"a disordered stretch", stretch, sentinel, 595, false, stretch, []int{56, 58, 60, 62, 64}},
		{"its beginning", stretch, sentinel, 505, false, stretch, []int{50, 52, 54}},
		{"its end", stretch, sentinel, 695, false, stretch, []int{66, 68, 70}},
		{"behind it", stretch, sentinel, 1555, false, stretch, []int{156}},

		{"a copy in its place", sorted, sentinel, 1550, false, slices.Delete(slices.Clone(sorted), 155, 156), []int{155}},
		{"a copy at the head", sorted, sentinel, 0, false, sorted[1:], []int{0}},
		{"a repeat at the head", sorted, sentinel, 0, true, sorted[1:], []int{0}},
		{"a repeat deep in the list", sorted, sentinel, 1550, true, slices.Delete(slices.Clone(sorted), 155, 156), []int{155}},
		{"a repeat of what is not there", sorted, sentinel, 1555, true, sorted, []int{156}},
		{"a repeat that lies out of place", with(sorted, 150, 1555), sentinel, 1555, true, sorted, []int{156}},
		{"a repeat that lies out of place behind", with(sorted, 160, 1555), sentinel, 1555, true, sorted, []int{156}},
		{"a repeat whose push hung", with(sorted, 3, 1555), sentinel, 1555, true, sorted, []int{156}},
		{"a repeat that is there three times", with(with(with(sorted, 0, 1555), 150, 1555), 158, 1555), sentinel, 1555, true, sorted, []int{156}},
		{"a repeat behind a trimmed list", sorted, "", 2995, true, sorted, nil},
	}
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, Config{})
		for _, tt := range rows {
			t.Run(tt.name, func(t *testing.T) {
				if err := w.store(t.Context(), feedKey("bob"), idsOf(tt.list), tt.end); err != nil {
					t.Fatal(err)
				}
				late := seconds(tt.late)
				if _, err := p.store.pushWithCare(t.Context(), late, []string{feedKey("bob")}, tt.repeat); err != nil {
					t.Fatal(err)
				}
				list := w.list(t, "bob")
				at := slices.Index(list, late.String())
				if at >= 0 {
					list = slices.Delete(list, at, at+1)
				}
				var want []string
				for _, id := range idsOf(tt.rest) {
					want = append(want, id.String())
				}
				if tt.end != "" {
					want = append(want, tt.end)
				}
				if !slices.Equal(list, want) {
					t.Errorf("the others = %v, want %v", list, want)
				}
				if at >= 0 && !slices.Contains(tt.at, at) || at < 0 && tt.at != nil {
					t.Errorf("the post lies at %d, want one of %v", at, tt.at)
				}
			})
		}
	})
}

// idsOf returns the ids of posts that were made so many seconds ago.
func idsOf(ages []float64) []event.ID {
	ids := make([]event.ID, len(ages))
	for i, ago := range ages {
		ids[i] = seconds(ago)
	}
	return ids
}

// Lists as ordinary pushes make them, from none to some hundred posts within the
// disorder or beyond, take late posts and repeats without breaking what readers rely on.
func TestPropertyCarefulPushesKeepTheBound(t *testing.T) {
	t.Parallel()
	printSeed(t)
	onEngines(t, checkCarefulPushes)
}

func checkCarefulPushes(t *testing.T, w *world) {
	p := w.process(t, Config{Cap: 1000})
	key := feedKey("bob")
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		// Each was sent some seconds after the one before, and made up to 89 s before it
		// came or 29 s after.
		between := rapid.SampledFrom([]float64{0.1, 2, 30}).Draw(rt, "between")
		n := rapid.IntRange(0, 300).Draw(rt, "posts")
		var ids []event.ID
		for i := range n {
			ids = append(ids, seconds(between*float64(i)+rapid.Float64Range(-29, 89).Draw(rt, "age")))
		}
		end := rapid.SampledFrom([]string{sentinel, "BMARKER", ""}).Draw(rt, "end")
		var gone []event.ID // what lies deeper than the list
		if end == "" {
			kept := rapid.IntRange(0, n).Draw(rt, "kept")
			ids, gone = ids[:kept], ids[kept:]
		}
		if err := checkBound(slices.Concat(ids, gone)); err != nil {
			rt.Fatalf("the test begins with a list that cannot be: %v", err)
		}
		if err := w.store(ctx, key, ids, end); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 20).Draw(rt, "pushes") {
			again := rapid.Bool().Draw(rt, "again")
			late := seconds(rapid.Float64Range(-100, between*float64(n)+200).Draw(rt, "late"))
			if len(ids) > 0 && rapid.IntRange(0, 3).Draw(rt, "known") == 0 {
				late = rapid.SampledFrom(ids).Draw(rt, "copy")
			}
			if _, err := p.store.pushWithCare(ctx, late, []string{key}, again); err != nil {
				rt.Fatal(err)
			}
			entries := w.raw.LRange(ctx, key, 0, -1).Val()
			after := listOf(entries)
			if len(entries)-len(after.ids) != min(1, len(end)) || end != "" && entries[len(entries)-1] != end {
				rt.Fatalf("list %v does not end with %q alone", entries, end)
			}
			copies, had := count(after.ids, late), count(ids, late)
			if out := copies == 0; out {
				gone = append(gone, late)
				if m := len(after.ids); end != "" || m > 0 && after.ids[m-1] < late {
					rt.Fatalf("%v is not in %v", late, entries)
				}
			}
			if again && copies > 1 || copies > had+1 {
				rt.Fatalf("%v is there %d times, before %d times", late, copies, had)
			}
			if got, want := without(after.ids, late), without(ids, late); !slices.Equal(got, want) {
				rt.Fatalf("other posts changed from %v to %v", want, got)
			}
			deepest := after.ids
			if len(gone) > 0 {
				deepest = append(slices.Clone(deepest), slices.Max(gone))
			}
			if err := checkBound(deepest); err != nil {
				rt.Fatalf("after %v: %v", late, err)
			}
			ids = after.ids
		}
	})
}

func count(ids []event.ID, id event.ID) (n int) {
	for _, other := range ids {
		if other == id {
			n++
		}
	}
	return n
}

func without(ids []event.ID, id event.ID) []event.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(other event.ID) bool { return other == id })
}
