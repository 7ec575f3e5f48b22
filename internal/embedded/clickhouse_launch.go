package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// clickHousePackage is the release that scripts/engines.sh fetches; both name
	// the same folder of the cache.
	clickHousePackage = "clickhouse-26.7.3"
	// A clickhouse binary must be able to listen in its local mode.
	minMajor, minMinor = 26, 6
	versionTimeout     = 10 * time.Second
)

// ClickHouseLibrary is where `make engines` puts the engine's shared library:
// under ACTIVITYFEED_CACHE, else activityfeed in XDG_CACHE_HOME, else ~/.cache.
func ClickHouseLibrary() (string, error) {
	cache := os.Getenv("ACTIVITYFEED_CACHE")
	if cache == "" {
		cache = os.Getenv("XDG_CACHE_HOME")
	}
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache: %w", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "activityfeed", "engines", clickHousePackage, "libchdb.so"), nil
}

// launcher makes the command that runs the engine.
type launcher struct {
	from    string // what it runs, for the log
	command func(args []string) *exec.Cmd
}

// findClickHouse prefers the library, whose version is pinned, to whatever
// binary is on PATH; a binary or library that was named comes first.
func findClickHouse(ctx context.Context, cfg ClickHouseConfig) (launcher, error) {
	if cfg.Library != "" {
		if _, err := os.Stat(cfg.Library); err != nil {
			return launcher{}, fmt.Errorf("clickhouse: %w: library %s: %w", ErrEngineMissing, cfg.Library, err)
		}
		return fromLibrary(cfg.Library)
	}
	if cfg.Binary != "" {
		return fromBinary(ctx, cfg.Binary)
	}
	if lib, err := ClickHouseLibrary(); err == nil {
		if _, err := os.Stat(lib); err == nil {
			return fromLibrary(lib)
		}
	}
	if _, err := exec.LookPath("clickhouse"); err == nil {
		return fromBinary(ctx, "clickhouse")
	}
	hint := "run `make engines`"
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		hint = fmt.Sprintf("put a clickhouse %d.%d or newer on PATH", minMajor, minMinor)
	}
	return launcher{}, fmt.Errorf("clickhouse: %w: no library in the cache and no clickhouse on PATH: %s", ErrEngineMissing, hint)
}

func fromLibrary(path string) (launcher, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return launcher{}, fmt.Errorf("clickhouse: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return launcher{}, fmt.Errorf("clickhouse: find our own binary: %w", err)
	}
	return launcher{from: path, command: func(args []string) *exec.Cmd {
		cmd := exec.Command(self, append([]string{path}, args...)...)
		cmd.Env = append(os.Environ(), childEnv+"=clickhouse")
		return cmd
	}}, nil
}

var versionPattern = regexp.MustCompile(`version (\d+)\.(\d+)`)

func fromBinary(ctx context.Context, name string) (launcher, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return launcher{}, fmt.Errorf("clickhouse: %w: binary %s: %w", ErrEngineMissing, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "local", "--version").Output()
	if err != nil {
		return launcher{}, fmt.Errorf("clickhouse: ask %s for its version: %w", path, err)
	}
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		return launcher{}, fmt.Errorf("clickhouse: %s says no version: %q", path, strings.TrimSpace(string(out)))
	}
	major, _ := strconv.Atoi(m[1]) // digits by the pattern
	minor, _ := strconv.Atoi(m[2])
	if major < minMajor || (major == minMajor && minor < minMinor) {
		return launcher{}, fmt.Errorf("clickhouse: %w: %s is %d.%d, and %d.%d or newer is needed: run `make engines` or install a newer one",
			ErrEngineMissing, path, major, minor, minMajor, minMinor)
	}
	return launcher{from: path, command: func(args []string) *exec.Cmd {
		return exec.Command(path, append([]string{"local"}, args...)...)
	}}, nil
}

// askClickHouse asks for a sum as ClickHouseUser, whose password nobody else's
// server on this port would take.
func askClickHouse(ctx context.Context, addr, password string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/?query=SELECT%2040%2B2", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Clickhouse-User", ClickHouseUser)
	req.Header.Set("X-Clickhouse-Key", password)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(body)); res.StatusCode != http.StatusOK || got != "42" {
		return fmt.Errorf("it answered %s: %q", res.Status, got)
	}
	return nil
}

// frame is a line of a C++ stack trace, which says nothing without symbols.
var frame = regexp.MustCompile(`^(ClientBase: +)?(\d+\. \S+ @ 0x|Stack trace: 0x|\(version |#{8})`)

// clientError is a line about a query or a connection of a client, who was told the
// same: an analyst's typo is nothing that an operator has to know.
var clientError = regexp.MustCompile(`^(executeQuery|TCPHandler|HTTPHandler|DynamicQueryHandler|PredefinedQueryHandler|StaticRequestHandler|ServerErrorHandler): `)

// refusal is how the engine prints that a query of its own command line failed,
// which are those that open the ports. It stays at its prompt after that.
var refusal = regexp.MustCompile(`^Code: \d+\. DB::Exception: `)

// traceTail ends each line of an error; the traces are not kept.
const traceTail = ", Stack trace (when copying this message, always include the lines below):"

// clickHouseLine reads a line of the engine. A line reads
// "2026.11.22 02:00:00.000000 [ 1 ] {} <Error> Component: text"; the errors
// repeat what somebody was told, so they are warnings at most.
func clickHouseLine(line string) engineLine {
	if frame.MatchString(line) || line == "Received exception:" {
		return engineLine{}
	}
	level, text := slog.LevelInfo, line
	for mark, l := range map[string]slog.Level{"<Fatal> ": slog.LevelError, "<Critical> ": slog.LevelError, "<Error> ": slog.LevelWarn, "<Warning> ": slog.LevelInfo} {
		if _, rest, ok := strings.Cut(line, mark); ok {
			level, text = l, rest
			break
		}
	}
	if frame.MatchString(text) {
		return engineLine{}
	}
	text = strings.TrimSuffix(text, traceTail)
	if clientError.MatchString(text) {
		level = slog.LevelDebug
	}
	return engineLine{level: level, text: text, refusal: refusal.MatchString(line)}
}
