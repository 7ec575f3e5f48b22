package embedded

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// maxLine bounds a log line taken from an engine; ClickHouse repeats whole
	// queries in its errors.
	maxLine = 1000
	// lastMoment is how old a line may be to have to do with the signal that ended
	// an engine.
	lastMoment = 2 * time.Second
)

// engineLine is what a line of an engine says. A line without a text is dropped.
type engineLine struct {
	// level is Debug for what nobody has to act on; the rest may become the reason
	// in the error that says that the engine ended.
	level slog.Level
	text  string
	// refusal: the engine says that it will not serve, though it lives on.
	refusal bool
}

// lineParser reads a line of an engine.
type lineParser func(line string) engineLine

// lineLog is an io.Writer that turns an engine's output into log records.
type lineLog struct {
	log   *slog.Logger
	parse lineParser

	// refused has the first refusal.
	refused chan string

	mu     sync.Mutex
	part   []byte // the line that has no end yet
	last   string // the last line above Debug, for the error at the end
	lastAt time.Time
}

func newLineLog(log *slog.Logger, parse lineParser) *lineLog {
	return &lineLog{log: log, parse: parse, refused: make(chan string, 1)}
}

// Write logs the complete lines in p and keeps the rest. It never fails.
func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		line, rest, ok := bytes.Cut(p, []byte("\n"))
		if !ok {
			break
		}
		l.line(string(l.part) + string(line))
		l.part, p = l.part[:0], rest
	}
	if room := maxLine - len(l.part); room > 0 {
		l.part = append(l.part, p[:min(room, len(p))]...)
	}
	return n, nil
}

// flush logs a last line that has no end.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.line(string(l.part))
		l.part = nil
	}
}

func (l *lineLog) line(s string) {
	if s = strings.TrimSpace(s); s == "" {
		return
	}
	parsed := l.parse(s)
	text := parsed.text
	if text == "" {
		return
	}
	if len(text) > maxLine {
		text = text[:maxLine] + "..."
	}
	if parsed.level > slog.LevelDebug {
		l.last, l.lastAt = text, time.Now()
	}
	if parsed.refusal {
		select {
		case l.refused <- text:
		default: // the first one is the cause of the others
		}
	}
	l.log.Log(context.Background(), parsed.level, text)
}

// lastWords is the last thing of weight that the engine said, as the end of an
// error text: if it is not older than within, where that is not 0.
func (l *lineLog) lastWords(within time.Duration) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" || within > 0 && time.Since(l.lastAt) > within {
		return ""
	}
	return ": " + l.last
}
