package bench_test

import (
	"strings"
	"testing"

	"activityfeed/internal/bench"
	"activityfeed/internal/testenv"
)

func TestFanoutMeasures(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t)
	cfg := bench.FanoutConfig{
		Brokers: testenv.Kafka(t), RedisAddr: redis,
		Users: 400, Posts: 300, Audience: 30, Entries: 100,
	}
	var out strings.Builder
	result, err := bench.Fanout(t.Context(), &out, cfg, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	// How fast it is here says nothing: the numbers only have to be there.
	if result.Name != "fanout" || result.Ratio <= 0 || result.Target != bench.FanoutTarget {
		t.Errorf("Fanout = %+v", result)
	}
	for _, part := range []string{"LPUSHX", "log to lists", "ZADD", "bytes an entry"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the table lacks %q:\n%s", part, out.String())
		}
	}

	if _, err := bench.Fanout(t.Context(), &out, cfg, testenv.Logger(t)); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("Fanout into engines that are in use: %v, want a refusal", err)
	}
}
