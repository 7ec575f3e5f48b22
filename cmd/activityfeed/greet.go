package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
)

// fact is one line of what a server says of itself at its start.
type fact struct{ key, label, value string }

// greet says what runs where, and what to try: to people, or as one line of the log
// where machines read it.
func (s *server) greet(con *console) {
	facts := s.facts()
	if con.logConfig.Format == "json" {
		attrs := []any{"pid", os.Getpid()}
		for _, f := range facts {
			attrs = append(attrs, f.key, f.value)
		}
		con.log.Info("activityfeed is up", attrs...)
		return
	}
	fmt.Fprintf(con.out, "activityfeed is up (pid %d)\n", os.Getpid())
	for _, f := range facts {
		fmt.Fprintf(con.out, "  %-12s %s\n", f.label, f.value)
	}
	if tips := s.tips(); len(tips) > 0 {
		fmt.Fprintf(con.out, "Try, in another terminal:\n  %s\n", strings.Join(tips, "\n  "))
	}
	fmt.Fprintln(con.out, "Ctrl-C stops it in order.")
}

func (s *server) facts() []fact {
	e := s.endpoints()
	facts := []fact{
		{"roles", "roles", strings.Join(s.roles, ", ")},
		{"grpc", "gRPC", e.API},
		{"operator", "operator", "http://" + e.Ops + "/metrics"},
		{"log", "log", strings.Join(e.Kafka, ", ")},
		{"redis", "Redis", strings.Join(e.Redis, ", ")},
		{"clickhouse", "ClickHouse", strings.Join(e.ClickHouse.Addr, ", ")},
	}
	if s.push.applicationServerKey != "" {
		facts = append(facts, fact{"web_push", "Web Push", "http://" + e.Ops + "/push/?key=" + s.push.applicationServerKey})
	}
	facts = append(facts, fact{"data", "data", s.cfg.Engines.DataDir})
	return slices.DeleteFunc(facts, func(f fact) bool { return f.value == "" })
}

// tips are commands that work on this server.
func (s *server) tips() []string {
	e, dir := s.endpoints(), s.cfg.Engines.DataDir
	var tips []string
	if e.API != "" {
		tips = append(tips, "activityfeed load --graph FILE --data-dir "+dir)
	}
	if len(e.ClickHouse.Addr) > 0 {
		tips = append(tips, "activityfeed sql --data-dir "+dir+` "SELECT event_type, count() FROM events GROUP BY 1"`)
	}
	return tips
}

// redisLog takes what the Redis client says by itself, in the log's format: what it
// fails at, the services say too.
type redisLog struct{ log *slog.Logger }

// Printf is what the client calls.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client: "+strings.TrimPrefix(fmt.Sprintf(format, args...), "redis: "))
}
