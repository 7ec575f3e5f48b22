// Command activityfeed is the whole backend in one binary: the gRPC services,
// the three consumers and their engines, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"

	"activityfeed/internal/app"
	"activityfeed/internal/embedded"
)

// cli is the command line. What describes a server can also be given as an
// environment variable, ACTIVITYFEED_ and the flag's name in capitals: --data-dir is
// ACTIVITYFEED_DATA_DIR; see bindEnvironment.
type cli struct {
	Log     app.LogConfig    `embed:"" prefix:"log-" group:"Logging"`
	Version kong.VersionFlag `help:"Say which version this is, and stop."`

	Serve   serveCmd   `cmd:"" help:"Run the services: all of them, or the roles that you name."`
	Demo    demoCmd    `cmd:"" help:"Show one photo's way through the whole system, then stop."`
	Load    loadCmd    `cmd:"" help:"Replay a social graph and posts through the API."`
	Audit   auditCmd   `cmd:"" help:"Compare every feed with its definition."`
	Rebuild rebuildCmd `cmd:"" help:"Make the feeds, or the analytics tables, anew from the log, while the server serves."`
	SQL     sqlCmd     `cmd:"" name:"sql" help:"Ask the analytics tables a question."`
	Poison  poisonCmd  `cmd:"" help:"Look at, replay or drop events that a service could not process."`
	Bench   benchCmd   `cmd:"" help:"Measure this system beside the ceilings of its engines."`
}

func main() {
	// The embedded ClickHouse is this binary, started again as a child.
	embedded.RunChild()
	floor := app.NewHeapFloor(os.Getenv)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	runtime.KeepAlive(floor)
	if err != nil {
		fmt.Fprintln(os.Stderr, "activityfeed:", err)
		if errors.Is(err, errDrift) {
			os.Exit(2) // the audit was done; 1 says that it could not be
		}
		os.Exit(1)
	}
}

// run parses the command line and runs the command. Results go to stdout, logs
// and progress to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c cli
	parser, err := newParser(&c, stdout, stderr)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return explain(err)
	}
	log, err := app.NewLogger(stderr, c.Log)
	if err != nil {
		return err
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(&console{out: stdout, err: stderr, log: log, logConfig: c.Log})
}
