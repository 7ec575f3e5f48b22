package testenv

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// awaitLimit is when a test gives up waiting, long for a machine that is busy;
	// awaitPoll is how often it looks.
	awaitLimit = 30 * time.Second
	awaitPoll  = 5 * time.Millisecond
)

// Await polls what another process or an engine decides, and fails the test where it
// does not come. What is of our own making gives signals instead.
func Await(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.After(awaitLimit)
	tick := time.NewTicker(awaitPoll)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v for %s", awaitLimit, what)
		}
	}
}

// Value returns what counters and gauges say, the sum of all labels.
func Value(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
