package middleware

import (
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
)

// routerErrorsEvery is the shortest time between two error lines of a router.
const routerErrorsEvery = time.Second

// NewRouterLogger returns the logger of a Watermill router. What the router tells
// of its own life (handlers added, subscribers stopped) is for debugging. Every
// failed delivery is an error line of the router, and an outage fails thousands in
// a second: one line in a second is written, with the number of those left out;
// the metrics count them all.
func NewRouterLogger(log *slog.Logger) watermill.LoggerAdapter {
	quiet := watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
	return &routerLogger{LoggerAdapter: quiet, errors: &throttle{every: routerErrorsEvery}}
}

type routerLogger struct {
	watermill.LoggerAdapter

	errors *throttle
}

// Error implements watermill.LoggerAdapter.
func (l *routerLogger) Error(msg string, err error, fields watermill.LogFields) {
	leftOut, ok := l.errors.pass(time.Now())
	if !ok {
		return
	}
	if leftOut > 0 {
		fields = fields.Add(watermill.LogFields{"left_out": leftOut})
	}
	l.LoggerAdapter.Error(msg, err, fields)
}

// With implements watermill.LoggerAdapter; the loggers share one throttle.
func (l *routerLogger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return &routerLogger{LoggerAdapter: l.LoggerAdapter.With(fields), errors: l.errors}
}

// throttle lets one through in a while and counts the others.
type throttle struct {
	every time.Duration

	mu      sync.Mutex
	last    time.Time
	leftOut int
}

func (t *throttle) pass(now time.Time) (leftOut int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.IsZero() && now.Sub(t.last) < t.every {
		t.leftOut++
		return 0, false
	}
	leftOut, t.last, t.leftOut = t.leftOut, now, 0
	return leftOut, true
}
