package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports that the kernel gives to whoever asks for any are above these (32768 to 60999
// on Linux): it gives one away while the server that a test restarts is down.
const firstPort, lastPort = 12_000, 32_000

// FreePort returns a port of 127.0.0.1 that nobody listens on, for servers that a test
// starts on the same one again, or that have to know it before they start.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
