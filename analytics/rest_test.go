package analytics

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
)

var restFor = flag.Duration("rest.for", 5*time.Second, "how long TestAtRestOneInsertASecond posts")

// fresh notes when rows can be read, by event id.
type fresh struct {
	inserter

	mu   sync.Mutex
	seen map[uint64]time.Time
	more chan struct{} // holds a token when there are more
}

func (f *fresh) insert(ctx context.Context, token string, r block, from, to int) error {
	err := f.inserter.insert(ctx, token, r, from, to)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := from; i < to; i++ {
		if _, again := f.seen[r.id(i)]; !again {
			f.seen[r.id(i)] = time.Now()
		}
	}
	select {
	case f.more <- struct{}{}:
	default:
	}
	return nil
}

// With the settings that serve has, a table at rest gets no more than one insert a
// second, from however many partitions its rows come.
func TestAtRestOneInsertASecond(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events") // each insert stays a part
	brokers := newLog(t)
	cfg := table.cfg
	cfg.Gather = 0 // the default
	log := testenv.Logger(t)
	a, err := newAnalyticsAs(Service, cfg, brokers, log)
	if err != nil {
		t.Fatal(err)
	}
	if a.deps.Subscriber, err = testGroup(brokers, log, Service, &kafka.BatchConfig{MaxRecords: 50_000, MaxWait: time.Second, InStep: true}); err != nil {
		t.Fatal(err)
	}
	store := &fresh{inserter: a.sink.store, seen: map[uint64]time.Time{}, more: make(chan struct{}, 1)}
	a.sink.store = store
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	}()

	// The first one waits for the tables to be made and the group to be joined.
	start := time.Now()
	publish(t, brokers, manyPhotos(0, 0)...)
	await(t, "the first post", store.more)

	// Five posts a second, by as many authors.
	const every = 200 * time.Millisecond
	accepted := map[uint64]time.Time{}
	posting := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; time.Since(posting) < *restFor; n++ {
		e := manyPhotos(n, n)[0]
		accepted[uint64(e.ID)] = time.Now()
		publish(t, brokers, e)
		<-tick.C
	}
	deadline := time.After(patience)
	for there := 0; there <= len(accepted); {
		select {
		case <-store.more:
		case <-deadline:
			t.Fatalf("%d of %d events after %v", there, len(accepted), patience)
		}
		store.mu.Lock()
		there = len(store.seen)
		store.mu.Unlock()
	}
	took := time.Since(start)

	inserts := table.count("SELECT count() FROM system.parts WHERE database = '{db}' AND table = 'events'")
	// They are a second apart.
	if most := int(took/time.Second) + 1; inserts > most || inserts < 1 {
		t.Errorf("%d inserts in %v, want %d at most", inserts, took, most)
	}
	var ages []time.Duration
	for id, at := range accepted {
		ages = append(ages, store.seen[id].Sub(at))
	}
	slices.Sort(ages)
	percentile := func(p int) time.Duration { return ages[len(ages)*p/100].Round(time.Millisecond) }
	t.Logf("%d posts in %v: %d inserts into events; accepted to visible p50 %v, p99 %v, worst %v",
		len(accepted), took.Round(time.Millisecond), inserts, percentile(50), percentile(99), ages[len(ages)-1].Round(time.Millisecond))
}
