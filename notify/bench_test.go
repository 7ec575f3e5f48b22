package notify

import (
	"fmt"
	"testing"
)

// One post to 10,000 subscribers with full inboxes: rows/s of one handler.
func BenchmarkFanout(b *testing.B) {
	const fans, rows = 10_000, 20
	w := newWorld(b, realRedis(b), Config{InboxRows: rows})
	for i := range fans {
		if _, err := w.service.store.follow(b.Context(), fmt.Sprintf("fan%05d", i), "ann", w.event(nil).ID, followAll, false); err != nil {
			b.Fatal(err)
		}
	}
	for n := range rows {
		w.handle(w.event(posted("ann", n)))
	}
	for b.Loop() {
		w.handle(w.event(posted("ann", 1)))
	}
	b.ReportMetric(float64(b.N*fans)/b.Elapsed().Seconds(), "rows/s")
}

// A full inbox with rows of 50 authors, as GetUnreadCount reads it.
func BenchmarkView(b *testing.B) {
	w := newWorld(b, realRedis(b), Config{})
	for n := range 200 {
		w.handle(w.event(posted(fmt.Sprintf("author%02d", n%50), n, "bob")))
	}
	for b.Loop() {
		if w.unread("bob") != 200 {
			b.Fatal("not 200 unread")
		}
	}
}
