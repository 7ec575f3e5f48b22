package embedded

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
)

// portOr is port itself when it is set, 0 when none is wanted, else a port that
// was free a moment ago. Another process may take it first; so who uses it tries
// again.
func portOr(port int, none bool) (int, error) {
	if none || port != 0 {
		return port, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	_, free, err := net.SplitHostPort(l.Addr().String())
	if err == nil {
		port, err = strconv.Atoi(free)
	}
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return port, nil
}

// TakenPortError says that another program listens where an engine shall.
type TakenPortError struct{ Port int }

// Error names the port.
func (e *TakenPortError) Error() string {
	return fmt.Sprintf("port %d is taken by another program", e.Port)
}

// CheckPort returns a [TakenPortError] if somebody listens on the port of 127.0.0.1.
// An engine says the same after it has started, and in its own words.
func CheckPort(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &TakenPortError{port}
	case err != nil:
		return fmt.Errorf("try port %d: %w", port, err)
	}
	return l.Close()
}

// lostPort says whether an engine has not started because somebody took a port
// that we had found free. Ports that were asked for by number are given.
func lostPort(err error, asked ...int) bool {
	taken, ok := errors.AsType[*TakenPortError](err)
	return ok && !slices.Contains(asked, taken.Port)
}

// withTaken adds to why an engine did not start which of its ports others have.
func withTaken(err error, ports ...int) error {
	for _, port := range ports {
		if taken := CheckPort(port); port != 0 && taken != nil {
			return fmt.Errorf("%w: %w", taken, err)
		}
	}
	return err
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
