package testenv

import (
	"cmp"
	"fmt"
	"testing"
)

// verdict records how a test was ended; the first word counts, as it does for
// a real test.
type verdict struct {
	testing.TB

	got string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) {
	v.got = cmp.Or(v.got, "failed: "+fmt.Sprintf(format, args...))
}

func (v *verdict) Skipf(format string, args ...any) {
	v.got = cmp.Or(v.got, "skipped: "+fmt.Sprintf(format, args...))
}

func TestNeed(t *testing.T) {
	tests := map[string]struct{ ci, want string }{
		"at home": {"", "skipped: needs redis: run make redis"},
		"in CI":   {"true", "failed: needs redis: run make redis (a skip is a failure where CI=true)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CI", tt.ci)
			v := &verdict{TB: t}
			need(v, "redis", "run make redis")
			if v.got != tt.want {
				t.Errorf("need: %s, want %s", v.got, tt.want)
			}
		})
	}
}
