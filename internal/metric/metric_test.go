package metric_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/metric"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	counter := func() prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Things."})
	}
	reg := prometheus.NewRegistry()
	first := metric.Register(reg, counter())
	if second := metric.Register(reg, counter()); second != first {
		t.Error("the same metric registered twice is two collectors, want the first one")
	}
	if alone := counter(); metric.Register(nil, alone) != alone {
		t.Error("without a registry the collector is not the one that was given")
	}
	defer func() {
		if recover() == nil {
			t.Error("two different metrics of one name passed")
		}
	}()
	metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Other things."}))
}
