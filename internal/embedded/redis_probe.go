package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// startMiniredis is Redis with nothing installed: same protocol, no persistence.
func startMiniredis(cfg RedisConfig, log *slog.Logger) (*Redis, error) {
	if cfg.Socket != "" {
		return nil, fmt.Errorf("redis: %w: a unix socket needs redis-server on PATH: install it (make redis)", ErrEngineMissing)
	}
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port))); err != nil {
		return nil, fmt.Errorf("redis: start the in-memory stand-in: %w", err)
	}
	log.Warn("no redis-server on PATH: feeds and inboxes are kept in memory and rebuilt from the log at every start; install redis-server (make redis) to keep them",
		"addr", m.Addr())
	return &Redis{addr: m.Addr(), mini: m, stopped: make(chan struct{})}, nil
}

const (
	// probeEvery is how often a starting engine is asked whether it is ready.
	probeEvery = 10 * time.Millisecond
	// probeTimeout bounds one question.
	probeTimeout = 2 * time.Second
)

// waitRedis returns when the server at addr answers, has loaded its data, and is
// the child and not somebody else's server on the same port.
func waitRedis(ctx context.Context, c *child, network, addr string) error {
	return waitReady(ctx, c, func(ctx context.Context) error {
		info, err := redisInfo(ctx, network, addr)
		if err != nil {
			return err
		}
		if want := "process_id:" + strconv.Itoa(c.pid()); !strings.Contains(info, want+"\r\n") {
			return fmt.Errorf("another server answers at %s", addr)
		}
		if !strings.Contains(info, "\r\nloading:0\r\n") { // not async_loading
			return errors.New("still loading its append-only file")
		}
		return nil
	})
}

// waitReady asks probe until it succeeds, the child ends or says that it will not
// serve, or ctx ends.
func waitReady(ctx context.Context, c *child, probe func(context.Context) error) error {
	// A probe may hang on a port that somebody else has: the child's end ends it.
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	refused := make(chan error, 1)
	go func() {
		select {
		case <-c.done:
			refused <- c.err
		case text := <-c.out.refused:
			refused <- fmt.Errorf("%s does not serve: %s", c.name, text)
		case <-asking.Done():
			return
		}
		cancel()
	}()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		err := probe(asking)
		select {
		case err := <-refused: // of one port; the probe may have been answered on the other
			return err
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case err := <-refused:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready: %w (last answer: %w)", c.name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// redisInfo asks for INFO in the protocol's inline form, which is all that the
// probe needs of a client.
func redisInfo(ctx context.Context, network, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "INFO\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	head, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil || n < 0 || n > 1<<20 {
		return "", fmt.Errorf("unexpected answer %q", head)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	return string(body), nil
}

// redisLine gives a line of redis-server its level. A line reads
// "12:M 22 Nov 2026 02:00:00.000 # text". The mark before the text is . - * or #,
// and # is used for greetings and for trouble alike.
func redisLine(line string) engineLine {
	head, text, ok := strings.Cut(line, " # ")
	if !ok || len(head) > 60 {
		return engineLine{level: slog.LevelDebug, text: line}
	}
	lower := strings.ToLower(text)
	// Said at every start, in 400 characters, of a setting of the whole machine.
	if strings.Contains(lower, "memory overcommit must be enabled") {
		return engineLine{level: slog.LevelDebug, text: text}
	}
	for _, word := range []string{"warning", "error", "fail", "crash", "can't", "fatal", "unable"} {
		if strings.Contains(lower, word) {
			return engineLine{level: slog.LevelInfo, text: text}
		}
	}
	return engineLine{level: slog.LevelDebug, text: text}
}
