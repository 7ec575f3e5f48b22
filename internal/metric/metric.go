// Package metric registers collectors for parts that may be made more than once in
// a process, or without anybody who looks.
package metric

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register returns the collector that reg already has under this name, or c. A nil
// reg means no metrics: c counts, and nobody sees it. It panics where two different
// collectors have one name, which is a mistake in the code.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
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
		panic(err)
	}
	return c
}
