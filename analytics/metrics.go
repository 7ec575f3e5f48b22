package analytics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what an operator sees of the sink, all under activityfeed_analytics_.
type metrics struct {
	rows          prometheus.Counter
	batches       *prometheus.CounterVec
	insertSeconds prometheus.Histogram
	unknown       prometheus.Counter

	// freshness is the age in seconds, as float bits, of the oldest event of the
	// last batch when it came in.
	freshness atomic.Uint64
	// waiting is the time of the oldest event of a batch that failed, in Unix
	// milliseconds; 0 while inserts succeed.
	waiting atomic.Int64
}

// newMetrics registers with reg; nil means that nobody looks.
func newMetrics(reg prometheus.Registerer, now func() time.Time) *metrics {
	with := promauto.With(reg)
	m := &metrics{
		rows: with.NewCounter(prometheus.CounterOpts{
			Name: "activityfeed_analytics_rows_total",
			Help: "Rows inserted into ClickHouse, repeats included.",
		}),
		batches: with.NewCounterVec(prometheus.CounterOpts{
			Name: "activityfeed_analytics_inserts_total",
			Help: "Inserts by result: inserted, failed (ClickHouse's fault, tried again), refused (the data's fault, halved).",
		}, []string{"result"}),
		insertSeconds: with.NewHistogram(prometheus.HistogramOpts{
			Name:    "activityfeed_analytics_insert_seconds",
			Help:    "How long an insert took, its wait for others to share it with and failed ones included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12), // 1 ms to 24 s
		}),
		unknown: with.NewCounter(prometheus.CounterOpts{
			Name: "activityfeed_analytics_unknown_events_total",
			Help: "Events of a type that this version does not know, skipped.",
		}),
	}
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "activityfeed_analytics_freshness_seconds",
		Help: "How old the oldest event of the last batch was when it came in; while inserts fail, how long it waits by now.",
	}, func() float64 { return m.age(now()) })
	return m
}

// fresh notes that a batch is in.
func (m *metrics) fresh(oldest, now time.Time) {
	m.freshness.Store(math.Float64bits(now.Sub(oldest).Seconds()))
	m.waiting.Store(0)
}

// stale notes that a batch is not in. The longest wait counts.
func (m *metrics) stale(oldest time.Time) {
	for at := oldest.UnixMilli(); ; {
		waiting := m.waiting.Load()
		if waiting != 0 && waiting <= at || m.waiting.CompareAndSwap(waiting, at) {
			return
		}
	}
}

func (m *metrics) age(now time.Time) float64 {
	if waiting := m.waiting.Load(); waiting != 0 {
		return now.Sub(time.UnixMilli(waiting)).Seconds()
	}
	return math.Float64frombits(m.freshness.Load())
}
