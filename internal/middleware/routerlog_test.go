package middleware

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRouterLoggerCountsWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := NewRouterLogger(slog.New(slog.NewTextHandler(&text, nil)))
		log.Info("Adding handler", nil)
		for range 3 {
			log.With(nil).Error("Handler returned error", errors.New("down"), nil)
		}
		time.Sleep(routerErrorsEvery)
		log.Error("Handler returned error", errors.New("down"), nil)

		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], "left_out=2") {
			t.Errorf("log =\n%s\nwant one line, then one with left_out=2", text.String())
		}
	})
}
