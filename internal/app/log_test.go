package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/app"
)

func TestLogFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		attr slog.Attr
		want any
	}{
		{"a duration", slog.Duration("value", 5*time.Second), "5s"},
		{"a duration in a group", slog.Group("value", "pause", 90*time.Second), map[string]any{"pause": "1m30s"}},
		{"a number", slog.Int("value", 5), 5.0},
		{"an error", slog.Any("value", context.Canceled), "context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, err := app.NewLogger(&out, app.LogConfig{Level: "info", Format: "json"})
			if err != nil {
				t.Fatal(err)
			}
			log.LogAttrs(t.Context(), slog.LevelInfo, "hello", tt.attr)
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v", out.String(), err)
			}
			if diff := cmp.Diff(tt.want, line["value"]); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", out.String(), diff)
			}
		})
	}
}
