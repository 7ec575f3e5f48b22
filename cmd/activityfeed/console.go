package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"activityfeed/internal/app"
)

// console is where a command speaks to people.
type console struct {
	out io.Writer // results
	err io.Writer // progress
	log *slog.Logger
	// logConfig is what log was made from.
	logConfig app.LogConfig
}

// quietLog is for commands that tell their own story: warnings and worse, unless
// the person asked for another level.
func (c *console) quietLog() (*slog.Logger, error) {
	cfg := c.logConfig
	if cfg.Level == "info" {
		cfg.Level = "warn"
	}
	return app.NewLogger(c.err, cfg)
}

// progressIsLive says whether progress goes to a terminal, which can redraw a line.
func (c *console) progressIsLive() bool {
	f, ok := c.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
