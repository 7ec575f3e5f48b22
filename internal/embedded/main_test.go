package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
)

// A test that kills a process and what it owns starts this binary again as that
// process: victimEnv names one of the victims.
const victimEnv = "EMBEDDED_TEST_VICTIM"

func TestMain(m *testing.M) {
	embedded.RunChild()
	if name := os.Getenv(victimEnv); name != "" {
		victims := map[string]func(dir string) error{"kafka": kafkaVictim, "redis": redisVictim, "clickhouse": clickHouseVictim}
		fmt.Fprintln(os.Stderr, name, victims[name](os.Args[1]))
		os.Exit(1)
	}
	os.Exit(testenv.Main(m))
}

// victim is a process that runs until it is killed. It says what it did, a line
// each, on its standard output.
type victim struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startVictim(t *testing.T, name, dir string) *victim {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, dir)
	cmd.Env = append(os.Environ(), victimEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &victim{cmd, bufio.NewScanner(out)}
}

// next returns the next line of the victim that begins with word, without it.
func (v *victim) next(t *testing.T, word string) string {
	t.Helper()
	for v.out.Scan() {
		if rest, ok := strings.CutPrefix(v.out.Text(), word+" "); ok {
			return rest
		}
	}
	t.Fatalf("the victim ended before it said %q: %v", word, v.out.Err())
	return ""
}

// kill kills -9 and returns what the victim had still said.
func (v *victim) kill(t *testing.T) []string {
	t.Helper()
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var rest []string
	for v.out.Scan() {
		rest = append(rest, v.out.Text())
	}
	_ = v.cmd.Wait()
	return rest
}

// quiet is the logger of a victim.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// within is a context for a test's own waiting.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
