package bench_test

import (
	"strings"
	"testing"
	"time"

	"activityfeed/internal/bench"
	"activityfeed/internal/testenv"
)

func TestReadMeasures(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	result, err := bench.Read(t.Context(), &out, bench.ReadConfig{
		Brokers: testenv.Kafka(t), RedisAddr: testenv.Redis(t),
		Users: 60, Follows: 30, Posts: 600, Callers: 4, Period: 100 * time.Millisecond, Rounds: 1,
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if result.Name != "read" || result.Ratio <= 0 || result.Target != bench.ReadTarget {
		t.Errorf("Read = %+v", result)
	}
	for _, part := range []string{"activityfeed", "bare gRPC", "p99", "requests/s"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the table lacks %q:\n%s", part, out.String())
		}
	}
}
