package embedded

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

const (
	// maxLine bounds a log line taken from an engine; ClickHouse repeats whole
	// queries in its errors.
	maxLine = 1000
	// keepLines is how many of an engine's last lines go into the error that
	// says that it ended.
	keepLines = 5
)

// lineParser gives a line of an engine its level; keep false drops the line.
type lineParser func(line string) (level slog.Level, text string, keep bool)

// lineLog is an io.Writer that turns an engine's output into log records.
type lineLog struct {
	log   *slog.Logger
	parse lineParser

	mu   sync.Mutex
	part []byte   // the line that has no end yet
	last []string // the last lines, for the error at the end
}

func newLineLog(log *slog.Logger, parse lineParser) *lineLog {
	return &lineLog{log: log, parse: parse}
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
	level, text, keep := l.parse(s)
	if !keep {
		return
	}
	if len(text) > maxLine {
		text = text[:maxLine] + "..."
	}
	l.last = append(l.last, text)
	if len(l.last) > keepLines {
		l.last = l.last[1:]
	}
	l.log.Log(context.Background(), level, text)
}

// lastWords is the tail of what the engine said, as the end of an error text.
func (l *lineLog) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return ""
	}
	return ": " + strings.Join(l.last, " | ")
}
