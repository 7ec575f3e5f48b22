package event

import (
	"testing"
	"time"
)

// The Reader's clock says what time.Time.UnmarshalText says, whatever it read before.
func FuzzClockIsUnmarshalText(f *testing.F) {
	for _, text := range []string{
		"2026-11-22T12:18:16.123456789Z", "2026-11-22T00:00:00Z", "2026-11-22T23:59:59.5Z", "2026-11-22T23:59:60Z", "2026-11-22T24:00:00Z",
		"2026-11-22T12:18:16.Z", "2026-11-22T12:18:16.1234567890Z", "2026-11-22T12:18:16,5Z", "2026-11-22T12:18:16.5", "2026-11-22T12:18:16+01:00",
		"2026-11-22T12:18:16.12x4Z", "2026-11-22T12:1:16Z", "2026-11-22 12:18:16Z", "2026-11-22", "2026-11-22T", "2026-11-23T01:02:03.004Z", "",
		"2026-11-22T12:18:16.5z", "2026-02-30T12:18:16Z", "0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z",
	} {
		f.Add("2026-11-22T01:02:03Z", text)
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, before, text string) {
		var c clock
		for _, text := range []string{before, text} {
			var want time.Time
			err := want.UnmarshalText([]byte(text))
			got, ok := c.read([]byte(text))
			if ok != (err == nil) || ok && (!got.Equal(want) || got.String() != want.String()) {
				t.Errorf("after %q: %q is %v, %v; want %v, %v", before, text, got, ok, want, err)
			}
		}
	})
}
