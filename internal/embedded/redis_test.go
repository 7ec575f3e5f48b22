package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
)

func redisClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// redisVictim writes down one key and says where its server is.
func redisVictim(dir string) error {
	ctx := context.Background()
	r, err := embedded.StartRedis(ctx, embedded.RedisConfig{Dir: dir, Binary: "redis-server"}, quiet())
	if err != nil {
		return err
	}
	if err := redis.NewClient(&redis.Options{Addr: r.Addr()}).Set(ctx, "key", "kept", 0).Err(); err != nil {
		return err
	}
	fmt.Println("server", r.PID(), r.Addr())
	<-r.Done()
	return r.Err()
}

// waitGone returns when nothing listens at addr any more, which it learns from
// the end of a connection.
func waitGone(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the engine lives on after the process that owned it was killed")
	}
}

func TestRedisDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	testenv.Redis(t) // skips where there is none
	dir := t.TempDir()
	v := startVictim(t, "redis", dir)
	_, addr, _ := strings.Cut(v.next(t, "server"), " ")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	v.kill(t)
	waitGone(t, conn)

	r := testenv.RedisServer(t, embedded.RedisConfig{Dir: dir})
	if got, err := redisClient(t, r.Addr()).Get(t.Context(), "key").Result(); err != nil || got != "kept" {
		t.Errorf("after the kill the key is %q, %v, want %q", got, err, "kept")
	}
}

func TestRedisKeepsDataOverRestart(t *testing.T) {
	t.Parallel()
	cfg := embedded.RedisConfig{Dir: t.TempDir()}
	r := testenv.RedisServer(t, cfg)
	if !r.Persistent() {
		t.Error("Persistent = false for a redis-server")
	}
	if err := redisClient(t, r.Addr()).Set(t.Context(), "key", "kept", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatalf("Close, twice: %v", err)
	}
	r = testenv.RedisServer(t, cfg)
	if got, err := redisClient(t, r.Addr()).Get(t.Context(), "key").Result(); err != nil || got != "kept" {
		t.Errorf("after the restart the key is %q, %v, want %q", got, err, "kept")
	}
}

func TestRedisTellsOfItsDeath(t *testing.T) {
	t.Parallel()
	r := testenv.RedisServer(t, embedded.RedisConfig{})
	if err := r.Err(); err != nil {
		t.Errorf("Err = %v while it runs", err)
	}
	if err := syscall.Kill(r.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	// Nothing that it said before has to do with it.
	if want := "redis-server ended: by signal 9 (killed)"; r.Err() == nil || r.Err().Error() != want {
		t.Errorf("Err = %v, want %s", r.Err(), want)
	}
	if r.Close() == nil {
		t.Error("Close says nothing of it")
	}
}

func TestRedisDirectoryHasOneServer(t *testing.T) {
	t.Parallel()
	cfg := embedded.RedisConfig{Dir: t.TempDir()}
	testenv.RedisServer(t, cfg)
	_, err := embedded.StartRedis(t.Context(), cfg, testenv.Logger(t))
	if want := "is in use by process " + strconv.Itoa(os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the second StartRedis says %v, want ...%s", err, want)
	}
}

func TestRedisOnASocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	r := testenv.RedisServer(t, embedded.RedisConfig{Dir: dir, Socket: socket, Settings: map[string]string{"maxmemory": "10mb"}})
	if r.Addr() != socket {
		t.Errorf("Addr = %s, want %s", r.Addr(), socket)
	}
	got, err := redisClient(t, r.Addr()).ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "10485760" {
		t.Errorf("maxmemory is %v, %v, want 10485760", got, err)
	}
}

func TestRedisOnATakenPort(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(testenv.Redis(t))
	n, _ := strconv.Atoi(port)
	_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Dir: t.TempDir(), Port: n}, testenv.Logger(t))
	if want := "redis: port " + port + " is taken by another program"; err == nil || err.Error() != want {
		t.Errorf("StartRedis on another server's port says %v, want %s", err, want)
	}
}

func TestRedisStandsInWithoutAServer(t *testing.T) {
	t.Setenv("PATH", "")
	r, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Dir: t.TempDir()}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.Persistent() {
		t.Error("Persistent = true for the stand-in")
	}
	if err := redisClient(t, r.Addr()).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	<-r.Done()

	_, err = embedded.StartRedis(t.Context(), embedded.RedisConfig{Dir: t.TempDir(), Binary: "redis-server"}, testenv.Logger(t))
	if !errors.Is(err, embedded.ErrEngineMissing) {
		t.Errorf("StartRedis with a binary that is not there says %v, want %v", err, embedded.ErrEngineMissing)
	}
}
