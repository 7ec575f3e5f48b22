package feed

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
)

// outlast delivers a fact until it is taken, as the subscriber does in an outage.
func (h *history) outlast(t *testing.T, fact proto.Message) {
	t.Helper()
	e := h.w.event(fact)
	h.log = append(h.log, e)
	for attempt, limit := 1, time.Now().Add(20*time.Second); ; attempt++ {
		err := h.deliver(t.Context(), e, attempt)
		if err == nil {
			return
		}
		if fault.KindOf(err) != fault.Unavailable || time.Now().After(limit) {
			t.Fatalf("deliver, attempt %d: %v, want an outage that ends", attempt, err)
		}
		time.Sleep(100 * time.Millisecond) // a failover is decided by other processes
	}
}

// A master is killed in the middle of a fan-out, and its replica takes over. Writes
// that were answered may be lost with it; events that fail come again, as the
// subscriber has them come. A restore from the log brings back the rest.
func TestAFailoverLosesNothingAfterARestore(t *testing.T) {
	t.Parallel()
	cluster := testenv.RedisCluster(t, 3, 1)
	w := newWorld(t, func(t testing.TB) redis.UniversalClient { return cluster.Client(t) })
	p := w.process(t, Config{Cap: 20, RedisTimeout: time.Second})
	h, m := &history{process: p}, newModel()
	const readers = 60
	reader := func(i int) string { return fmt.Sprintf("reader%02d", i) }
	for i := range readers {
		fact := followed(reader(i), "ann")
		h.outlast(t, fact)
		m.apply(fact)
		h.wantHome(t, reader(i))
	}
	for i := range 40 {
		if i == 10 {
			cluster.KillMaster(t, feedKey(reader(0)))
		}
		facts := []proto.Message{posted("ann", w.ids.Next(), w.clock.Now())}
		if i%5 == 4 {
			facts = append(facts, unfollowed(reader(i), "ann"))
		}
		for _, fact := range facts {
			h.outlast(t, fact)
			m.apply(fact)
		}
	}
	cluster.AwaitMaster(t)
	// What a replica had not yet got of its master is gone: more of it than chance has
	// taken.
	w.raw.Del(t.Context(), authorKey("ann"))
	w.raw.HDel(t.Context(), followers.key("ann"), reader(1), reader(2))
	if err := restore(t.Context(), h.Restore(nil, nil), h.log, func() {}); err != nil {
		t.Fatal(err)
	}
	for i := range readers {
		got, err := p.home(t.Context(), reader(i), 7, true)
		if want := m.home(reader(i)); err != nil || !slices.Equal(got, want) {
			t.Errorf("home(%s) = %v, %v, want %v", reader(i), got, err, want)
		}
	}
}
