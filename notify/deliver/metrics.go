package deliver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/metric"
	"activityfeed/notify/push"
)

// Reasons why a push is not sent.
const (
	skippedPreference = "preference"
	skippedDevice     = "no_device"
	skippedStale      = "stale_device"
	skippedExpired    = "expired"
	skippedRead       = "read_or_hidden"
	skippedTold       = "told_before"
	skippedRepeat     = "sent_before"
	skippedExhausted  = "given_up"
)

type metrics struct {
	attempts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	skipped  *prometheus.CounterVec
	limited  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, lanes map[push.Provider]*lane) *metrics {
	const prefix = "activityfeed_push_"
	m := &metrics{
		attempts: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "attempts_total", Help: "Attempts to push, by provider, what follows and why.",
		}, []string{"provider", "action", "reason"})),
		seconds: metric.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "attempt_seconds", Help: "Time of one attempt to push.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8), // 1 ms to 16 s
		}, []string{"provider"})),
		skipped: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "skipped_total", Help: "Pushes that were not sent, by reason.",
		}, []string{"reason"})),
		limited: metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "limited_total", Help: "Times that a push had to wait for its person's hourly allowance.",
		})),
	}
	for provider, l := range lanes {
		metric.Register(reg, prometheus.Collector(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "closed_scopes", Help: "Origins and providers to which this process sends nothing now: paused, or their breaker is open.",
			ConstLabels: prometheus.Labels{"provider": string(provider)},
		}, func() float64 { return float64(l.gate.closed()) })))
	}
	return m
}

func (m *metrics) outcome(p push.Provider, o push.Outcome, took time.Duration) {
	m.attempts.WithLabelValues(string(p), o.Action.String(), string(o.Reason)).Inc()
	m.seconds.WithLabelValues(string(p)).Observe(took.Seconds())
}

func (m *metrics) skip(reason string) { m.skipped.WithLabelValues(reason).Inc() }
