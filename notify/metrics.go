package notify

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/metric"
	pb "activityfeed/proto/activityfeed/v1"
)

// metrics counts what an operator of notify wants to see.
type metrics struct {
	rows        *prometheus.CounterVec
	fanout      prometheus.Histogram
	hidden      prometheus.Counter
	skipped     *prometheus.CounterVec
	undecodable prometheus.Counter
	watchers    prometheus.Gauge
	slow        prometheus.Counter
	connects    prometheus.Counter
}

// Reasons why an event is acked without effect.
const (
	skippedUnknown = "unknown_type"
	skippedDeleted = "deleted_post"
	skippedExpired = "expired"
)

// newMetrics registers the metrics with reg; nil means that nobody looks.
func newMetrics(reg prometheus.Registerer) *metrics {
	const prefix = "activityfeed_notify_"
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
	}
	return &metrics{
		rows: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "rows_total", Help: "Rows that were new in an inbox, by type.",
		}, []string{"type"})),
		fanout: metric.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "fanout_seconds", Help: "Time to notify everybody of one post.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10), // 0.5 ms to 2 min
		})),
		hidden: counter("hidden_total", "Recipients left out because of a block or a mute."),
		skipped: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "skipped_events_total", Help: "Events acked without effect, by reason.",
		}, []string{"reason"})),
		undecodable: counter("undecodable_rows_total", "Stored rows that this version cannot read, each time they were met."),
		watchers: metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "watchers", Help: "Live streams of this process that have begun.",
		})),
		slow:     counter("slow_clients_total", "Live streams cut off because the client did not read."),
		connects: counter("live_connects_total", "Connections made to Redis to hear of new rows: one, unless they break."),
	}
}

// kindLabel returns "post", "mention" or "follow".
func kindLabel(kind pb.NotificationType) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "NOTIFICATION_TYPE_"))
}
