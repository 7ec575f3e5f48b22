package bench_test

import (
	"strings"
	"testing"
	"time"

	"activityfeed/internal/bench"
	"activityfeed/internal/testenv"
)

func TestScaleMeasures(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	result, err := bench.Scale(t.Context(), &out, bench.ScaleConfig{
		Brokers: testenv.Kafka(t), SmallAddr: testenv.Redis(t), LargeAddr: testenv.Redis(t),
		Small: 200, Large: 1000, Audience: 20, Entries: 50, Posts: 100, Rounds: 1,
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if result.Name != "scale" || result.Ratio <= 0 || result.Target != bench.ScaleTarget {
		t.Errorf("Scale = %+v", result)
	}
	for _, part := range []string{"200 users", "1,000 users", "µs a delivery"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the table lacks %q:\n%s", part, out.String())
		}
	}
}

func TestVisibleMeasures(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	result, err := bench.Visible(t.Context(), &out, bench.VisibleConfig{
		Brokers: testenv.Kafka(t), RedisAddr: testenv.Redis(t),
		Users: 200, Audience: 20, Full: 100, Period: 200 * time.Millisecond, Rounds: 1,
	}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if result.Name != "visible" || result.Ratio <= 0 || result.Target != bench.VisibleTarget {
		t.Errorf("Visible = %+v", result)
	}
	for _, part := range []string{"a follower's feed", "the broker alone", "p99"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the table lacks %q:\n%s", part, out.String())
		}
	}
}
