package analytics

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestHistoryIsInTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	s, _ := newSink(t, table.store())
	store := func(topic, log string, partition int32, offset int64, events ...event.Event) {
		t.Helper()
		msg := batchOf(t, 1, recordsOf(t, offset, events...)...)
		msg.SetContext(record.WithOrigin(t.Context(), record.Origin{
			Topic: topic, TopicID: log, Partition: partition, Offset: offset, LastOffset: offset + int64(len(events)) - 1, Attempt: 1,
		}))
		if err := s.handleBatch(msg); err != nil {
			t.Fatal(err)
		}
	}
	table.exec("SYSTEM STOP MERGES {db}.events") // repeats stay
	// A log that was lost after offset 101, and the one that came then. Ids are not in
	// the order of the log: clocks differ.
	store(event.Topic, "first", 3, 100, photo(2, "ann"), photo(1, "ann"))
	store(event.Topic, "second", 3, 2, follow(7, "bob", "ann"), photo(6, "ann"))
	store(event.Topic, "second", 3, 0, photo(5, "ann"), follow(8, "cyd", "ann"))
	store(event.Topic, "second", 3, 1, follow(8, "cyd", "ann"), follow(7, "bob", "ann")) // cut otherwise
	store(event.Topic, "second", 4, 0, photo(9, "eve"))
	store("analytics.retry", "retry", 0, 0, photo(3, "ann"))
	s.newBlock = newBareRows
	store(event.Topic, "second", 3, 4, photo(10, "ann"))

	h, err := OpenHistory(t.Context(), table.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	counts, err := h.Partitions(t.Context())
	if diff := cmp.Diff(map[int32]int64{3: 9, 4: 1, -1: 1}, counts); diff != "" || err != nil {
		t.Errorf("Partitions, %v (-want +got):\n%s", err, diff)
	}
	for _, tt := range []struct {
		name      string
		read      func(partition int32, fn func(event.Event, error) error) error
		partition int32
		want      []int // the numbers of the events; negative where the content was not kept
	}{
		{"facts", func(p int32, fn func(event.Event, error) error) error { return h.Facts(t.Context(), p, fn) }, 3, []int{2, 1, 5, 8, 7, 6, 10}},
		{"posts", func(p int32, fn func(event.Event, error) error) error { return h.Posts(t.Context(), p, fn) }, 3, []int{2, 1, 5, 6, -10}},
		{"all", func(p int32, fn func(event.Event, error) error) error { return h.All(t.Context(), p, fn) }, 3, []int{2, 1, 5, 8, 7, 6, -10}},
		{"another partition", func(p int32, fn func(event.Event, error) error) error { return h.All(t.Context(), p, fn) }, 4, []int{9}},
		{"back from poison", func(p int32, fn func(event.Event, error) error) error { return h.All(t.Context(), p, fn) }, -1, []int{3}},
	} {
		var got []int
		err := tt.read(tt.partition, func(e event.Event, err error) error {
			n := int(e.ID.Time().Sub(day).Milliseconds())
			if err != nil {
				n = -n
			}
			got = append(got, n)
			if posted, ok := e.Data.(*pb.PhotoPosted); ok && tt.name == "posts" && err == nil && posted.GetPhoto().GetCaption() != "Grüße" {
				t.Errorf("post %d came back as %v", n, posted)
			}
			return nil
		})
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s, %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}
