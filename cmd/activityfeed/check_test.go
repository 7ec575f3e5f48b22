package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"

	"activityfeed/internal/testenv"
)

// serverOf makes the server of a command line; ports that are not named are free ones.
func serverOf(t *testing.T, args ...string) (*server, error) {
	t.Helper()
	return loggingServer(t, testenv.Logger(t), args...)
}

func loggingServer(t *testing.T, log *slog.Logger, args ...string) (*server, error) {
	t.Helper()
	var c serveCmd
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"--api-addr", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, args...)); err != nil {
		return nil, err
	}
	return newServer(t.Context(), c, log)
}

// takenPort returns a port of 127.0.0.1 that has somebody until the test ends.
func takenPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// What cannot work is refused by the name of its flag, before an engine has started.
func TestServeRefusesBeforeItStarts(t *testing.T) {
	t.Parallel()
	port, free := takenPort(t), strings.TrimPrefix(freeAddr(t), "127.0.0.1:")
	dir := t.TempDir()
	file := filepath.Join(dir, "afile")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const choose = " is taken by another program: stop that, or choose another (0 picks a free one)"
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"ClickHouse's port", []string{"--clickhouse-port", port}, "--clickhouse-port: " + port + choose},
		{"Redis's port", []string{"--redis-port", port}, "--redis-port: " + port + choose},
		{"the log's port", []string{"--kafka-port", port}, "--kafka-port: " + port + choose},
		{"the API's port", []string{"--api-addr", "127.0.0.1:" + port}, "--api-addr: 127.0.0.1:" + port + choose},
		{"the operator's port", []string{"--ops", "127.0.0.1:" + port}, "--ops: 127.0.0.1:" + port + choose},
		{"one port for two", []string{"--redis-port", free, "--api-addr", "127.0.0.1:" + free}, "--api-addr: 127.0.0.1:" + free + " is the port of --redis-port too: choose another (0 picks a free one)"},
		{"no port number", []string{"--redis-port", "70000"}, "--redis-port: 70000 is not 0 to 65535"},
		{"an address of the operator", []string{"--ops", "nonsense"}, `--ops: "nonsense" is not host:port`},
		{"an address of the API", []string{"--api-addr", "nonsense"}, `--api-addr: "nonsense" is not host:port`},
		{"an address of somebody else", []string{"--api-addr", "192.0.2.1:0"}, "--api-addr: 192.0.2.1:0: bind: cannot assign requested address"},
		{"a node", []string{"--node", "1024"}, "--node: 1024 is not 0 to 1023"},
		{"a consumer's window", []string{"--consumer-window=-1"}, "--consumer-window is negative"},
		{"a certificate that is not there", []string{"--api-cert-file", "/nosuch", "--api-key-file", "/nosuch"}, "--api-cert-file and --api-key-file: open /nosuch: no such file or directory"},
		{"a certificate without its key", []string{"--api-cert-file", "/nosuch"}, "--api-key-file: is missing; cert-file and key-file switch TLS on together"},
		{"no service account", []string{"--push-fcm-credentials", "/nosuch"}, "--push-fcm-credentials: fcm: read the service account: open /nosuch: no such file or directory"},
		{"a field of a domain", []string{"--feed-cap=-3"}, "--feed-cap: -3 is not in 0..10000"},
		{"two of its fields", []string{"--feed-rebuild-wait=-1s", "--feed-slack=-1"}, "--feed-slack: must not be negative\n--feed-rebuild-wait: must not be negative"},
		{"a field in words", []string{"--post-publish-timeout=-1s"}, "--post-publish-timeout: -1s is negative"},
		{"a field of the pushes", []string{"--notify-push-workers=-1"}, "--notify-push-workers: must not be negative"},
		{"the name of a database", []string{"--clickhouse-database", "a b"}, `--clickhouse-database: "a b" is not a name of letters, digits and _`},
		{"Redis without a port", []string{"--redis", "localhost"}, `--redis: "localhost" is not host:port`},
		{"ClickHouse without a port", []string{"--clickhouse", "localhost"}, `--clickhouse: "localhost" is not host:port`},
		{"Kafka with a wrong port", []string{"--kafka", "localhost:x"}, `--kafka: "localhost:x" is not host:port`},
		{"no partitions", []string{"--partitions", "0"}, "--partitions: 0 is not 1 or more"},
		{"copies of the embedded log", []string{"--replicas", "3"}, "--replicas needs a Kafka of your own (--kafka): the embedded log is one process"},
		{"a key without Web Push", []string{"--push-webpush-key", "zzz"}, "--push-webpush-key needs --push-webpush-subject: without that nothing is pushed there"},
		{"a key's name without APNs", []string{"--push-apns-key-id", "X"}, "--push-apns-key-id needs --push-apns-key-file: without that nothing is pushed there"},
		{"no folder", []string{"--data-dir", ""}, `--data-dir: name a folder ("." is the current one)`},
		{"a file as the folder", []string{"--data-dir", file}, "--data-dir: " + file + " is a file: name a folder"},
		{"a folder in a file", []string{"--data-dir", filepath.Join(file, "data")}, "--data-dir: " + file + " is a file: name a folder"},
		{"a folder that nobody can make", []string{"--data-dir", "/proc/nosuch/data"}, "--data-dir: cannot write in /proc: no such file or directory: name another folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := tt.args
			if !slices.Contains(args, "--data-dir") {
				args = append(args, "--data-dir", dir)
			}
			srv, err := serverOf(t, args...)
			if err == nil {
				srv.close()
			}
			if err == nil || err.Error() != tt.want {
				t.Errorf("serve %q says %v, want %s", tt.args, err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "kafka", "log")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the log was opened before: %v", err)
			}
		})
	}
}

func TestServeRefusesAFolderInUse(t *testing.T) {
	t.Parallel()
	args := []string{"--roles", "analytics", "--clickhouse", "127.0.0.1:1", "--data-dir", t.TempDir()} // the log alone
	srv, err := serverOf(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.close()
	_, err = serverOf(t, args...)
	want := "--data-dir: " + args[len(args)-1] + " is in use: another activityfeed, process " + strconv.Itoa(os.Getpid()) + ", serves from it: stop that one, or give this one a folder of its own"
	if err == nil || err.Error() != want {
		t.Errorf("the second server says %v, want %s", err, want)
	}
}

func TestFolderOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux, to be somebody else for a moment")
	}
	dir := t.TempDir() // root's, for root alone
	done := make(chan error, 1)
	go func() {
		// For files alone this thread is nobody; it ends with this goroutine.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
			done <- errno
			return
		}
		done <- makeFolder(filepath.Join(dir, "data"))
	}()
	got := <-done
	if got == nil || !strings.HasSuffix(got.Error(), "may not write there: give it to them (chown), or name another folder") || !strings.Contains(got.Error(), " belongs to root, ") {
		t.Errorf("makeFolder says %v, want it to say whose the folder is", got)
	}
}

// Without TLS and authentication, whoever reaches a port may act as anybody.
func TestComposeFilePublishesOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	published := regexp.MustCompile(`ports: \["([^"]*)"`).FindAllStringSubmatch(string(text), -1)
	if len(published) != strings.Count(string(text), "ports:") || len(published) == 0 {
		t.Fatalf("the file publishes ports in a form that this test does not know: %q", published)
	}
	for _, port := range published {
		if !strings.HasPrefix(port[1], "127.0.0.1:") {
			t.Errorf("port %s is open to everybody", port[1])
		}
	}
}
