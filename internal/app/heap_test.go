package app

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestHeapFloorDelaysTheNextCollection(t *testing.T) {
	rows := []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"nothing set", nil, true},
		{"collections chosen by the operator", map[string]string{"GOGC": "50"}, false},
		{"memory bounded by the operator", map[string]string{"GOMEMLIMIT": "64MiB"}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			floor := NewHeapFloor(func(name string) string { return row.env[name] })
			runtime.GC()
			if got := heapGoal() >= 2*heapFloor; got != row.want {
				t.Errorf("next collection at %d MB, floor %v, want it: %v", heapGoal()>>20, got, row.want)
			}
			runtime.KeepAlive(floor)
		})
	}
}

// heapGoal is how large the heap may grow until it is collected.
func heapGoal() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
