package bench_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"activityfeed/internal/bench"
	"activityfeed/internal/testenv"
)

func TestPush(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	got, err := bench.Push(t.Context(), &out, bench.PushConfig{Pushes: 500, KeyFile: filepath.Join(t.TempDir(), "vapid.pem")}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "push" || got.Ratio <= 0 || got.Target != bench.PushTarget {
		t.Errorf("Push = %+v, want a ratio of push", got)
	}
	if !strings.Contains(out.String(), "bare HTTP/2 client") {
		t.Errorf("the table is\n%s", out.String())
	}
}
