package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/app"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
)

// logLines keeps what is logged.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with returns the lines that have all these words.
func (l *logLines) with(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}

// mute is a port where somebody listens and never says a word.
func mute(t *testing.T) string { return "127.0.0.1:" + takenPort(t) }

func TestServeTellsOfItsKafka(t *testing.T) {
	t.Parallel()
	away := freeAddr(t)
	const advice = "; nothing works without the log, so this gives up after 200ms: start Kafka there, or correct the address"
	for _, tt := range []struct {
		name  string
		kafka string
		want  string
	}{
		{"nobody there", away, "--kafka " + away + ": unable to dial: dial tcp " + away + ": connect: connection refused" + advice},
		{"somebody else there", mute(t), "nothing there answers as Kafka does" + advice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			admin, err := kafka.NewAdmin([]string{tt.kafka})
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			var log logLines
			s := &server{log: slog.New(slog.NewTextHandler(&log, nil)), admin: admin}
			s.cfg.Engines.Kafka = []string{tt.kafka}
			err = s.awaitLog(t.Context(), 200*time.Millisecond)
			if err == nil || !strings.HasPrefix(err.Error(), "--kafka "+tt.kafka+": ") || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("awaitLog says %v, want --kafka and %s", err, tt.want)
			}
			if got := log.with("waiting for the log", tt.kafka); len(got) != 1 {
				t.Errorf("it says %d times that it waits, want once: %q", len(got), log.text.String())
			}
		})
	}
}

func TestServeWarns(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		want string // among the warnings; empty: there is none
	}{
		{"a role alone on an embedded log", []string{"--roles", "analytics"}, `these roles run nowhere: give them to this process too (--roles), or let all processes use one Kafka (--kafka)" roles=api,feed,notify`},
		{"a role alone on a Kafka", []string{"--roles", "analytics", "--kafka", testenv.Kafka(t)[0]}, ""},
		{"another number of partitions", []string{"--roles", "analytics", "--partitions", "16"}, "--partitions is not used"},
	} {
		// One after the other, on one folder.
		t.Run(tt.name, func(t *testing.T) {
			var log logLines
			srv, err := loggingServer(t, slog.New(slog.NewTextHandler(&log, nil)), append([]string{"--data-dir", dir, "--clickhouse", "127.0.0.1:1"}, tt.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			srv.close()
			if got := log.with("level=WARN", tt.want); tt.want == "" && len(got) > 0 || tt.want != "" && len(got) != 1 {
				t.Errorf("serve %q warns %q, want once %q", tt.args, got, tt.want)
			}
		})
	}
}

func TestGreeting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		format string
		roles  roleSet
		change func(*endpoints)
		want   []string
		not    []string
	}{
		{
			"everything", "text", allRoles(),
			func(e *endpoints) { e.API, e.ClickHouse.Addr = "127.0.0.1:1", []string{"127.0.0.1:4"} },
			[]string{"roles        api, feed, analytics, notify\n", "log          127.0.0.1:2, 127.0.0.1:3\n", "activityfeed load ", "activityfeed sql "},
			[]string{"["},
		},
		{"no ClickHouse", "text", roleSet{roleAPI}, func(e *endpoints) { e.API = "127.0.0.1:1" }, []string{"activityfeed load "}, []string{"activityfeed sql", "ClickHouse"}},
		{"no API", "text", roleSet{roleAnalytics}, func(e *endpoints) { e.ClickHouse.Addr = []string{"127.0.0.1:4"} }, []string{"activityfeed sql "}, []string{"activityfeed load", "gRPC"}},
		{"neither", "text", roleSet{roleFeed}, func(*endpoints) {}, []string{"Ctrl-C"}, []string{"Try"}},
		{"for machines", "json", allRoles(), func(*endpoints) {}, []string{`"roles":"api, feed, analytics, notify"`, `"log":"127.0.0.1:2, 127.0.0.1:3"`}, []string{"Try"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &server{roles: tt.roles, engines: new(engines)}
			s.engines.endpoints.Kafka = []string{"127.0.0.1:2", "127.0.0.1:3"}
			tt.change(&s.engines.endpoints)
			var out bytes.Buffer
			log, err := app.NewLogger(&out, app.LogConfig{Level: "info", Format: tt.format})
			if err != nil {
				t.Fatal(err)
			}
			s.greet(&console{out: &out, log: log, logConfig: app.LogConfig{Format: tt.format}})
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the greeting has no %q:\n%s", want, out.String())
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("the greeting has %q:\n%s", not, out.String())
				}
			}
		})
	}
}

// A server whose Redis is away serves what it can, and every line of its log is JSON.
func TestServeLogsOneFormat(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "activityfeed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "--log-format", "json", "--log-level", "debug", "serve", "--roles", "api,feed,notify",
		"--data-dir", t.TempDir(), "--api-addr", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--redis", freeAddr(t))
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	missing := []string{"redis client: ", "activityfeed is up", "cannot claim jobs", "stopped"}
	var asked sync.Once
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var line struct{ Msg, Level string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("a line is not JSON: %s", lines.Text())
		}
		missing = slices.DeleteFunc(missing, func(want string) bool { return strings.HasPrefix(line.Msg, want) })
		if len(missing) == 1 { // all but its end
			asked.Do(func() { _ = cmd.Process.Signal(os.Interrupt) })
		}
	}
	if err := cmd.Wait(); err != nil || len(missing) > 0 || stdout.Len() > 0 {
		t.Errorf("serve ended with %v; it never said %q, and on stdout %q", err, missing, stdout.String())
	}
}
