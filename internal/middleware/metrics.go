package middleware

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
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
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
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

// register returns the collector that reg already has under this name, or c.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		var already prometheus.AlreadyRegisteredError
		if errors.As(err, &already) {
			if existing, ok := already.ExistingCollector.(C); ok {
				return existing
			}
		}
		// Two different metrics of one name is a mistake in the code.
		panic(err)
	}
	return c
}
