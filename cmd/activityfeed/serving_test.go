package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/testenv"
)

// serving is a server with embedded engines that runs in the test's process.
type serving struct {
	*server

	t   *testing.T
	dir string
}

// serve starts a server, after change has altered its configuration. It ends with the
// test, and must end well.
func serve(t *testing.T, change func(*serveCmd)) *serving {
	t.Helper()
	s := &serving{t: t, dir: t.TempDir()}
	cfg, err := defaultServeConfig(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	if s.server, err = newServer(t.Context(), cfg, testenv.Logger(t)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil { // the test's context has ended
			t.Errorf("run = %v", err)
		}
	})
	return s
}

// tool runs a tool on the server and returns what it prints.
func (s *serving) tool(args ...string) (string, error) {
	var out bytes.Buffer
	err := run(s.t.Context(), append(args, "--data-dir", s.dir), &out, &out)
	return out.String(), err
}

// loseAllButMarkers empties Redis of all but what says that nothing is lost, so that
// nobody makes it anew.
func loseAllButMarkers(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	markers := make(map[string]string)
	for _, service := range []string{roleFeed, roleNotify} {
		marker, err := client.Get(t.Context(), projectionMarker(service)).Result()
		if errors.Is(err, redis.Nil) {
			continue // no role of this server
		}
		if err != nil {
			t.Fatal(err)
		}
		markers[projectionMarker(service)] = marker
	}
	_, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		tx.FlushAll(t.Context())
		return tx.MSet(t.Context(), markers).Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
