package middleware

import (
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/metric"
)

// metrics counts what becomes of deliveries. One set per process: the services
// share the collectors and differ by label.
type metrics struct {
	service  string
	handled  *prometheus.CounterVec
	failed   *prometheus.CounterVec
	retried  *prometheus.CounterVec
	poisoned *prometheus.CounterVec
	withheld *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, service string) metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "activityfeed_messages_" + name + "_total", Help: help,
		}, []string{"service", "reason"}))
	}
	return metrics{
		service:  service,
		handled:  counter("handled", "Messages that were acked, by what happened to them: processed or poisoned."),
		failed:   counter("failed", "Deliveries that ended in a nack, by the kind of error."),
		retried:  counter("retried", "Calls of a handler after the first: in place (retry) or by a new delivery (redelivery)."),
		poisoned: counter("poisoned", "Records that went to the poison topic, by reason."),
		withheld: counter("poison_withheld", "Messages that looked like poison but were kept: too few neighbours succeed, or the budget is empty."),
	}
}

func (m metrics) count(c *prometheus.CounterVec, reason string) {
	c.WithLabelValues(m.service, reason).Inc()
}
