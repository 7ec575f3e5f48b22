package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
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

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
