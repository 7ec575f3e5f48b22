package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ports are those that this process listens on, and the flags that gave them.
type ports map[int]string

// listen opens a port. An error names the flag that it comes from, whose value is
// what the operator gave.
func (p ports) listen(flag, value, addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err == nil {
		p[portOf(listener.Addr().String())] = flag
		return listener, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if other := p[portOf(addr)]; other != "" {
			return nil, fmt.Errorf("%s: %s is the port of %s too: choose another (0 picks a free one)", flag, value, other)
		}
		return nil, fmt.Errorf("%s: %s is taken by another program: stop that, or choose another (0 picks a free one)", flag, value)
	}
	if inner, ok := errors.AsType[*net.OpError](err); ok {
		err = inner.Err
	}
	return nil, fmt.Errorf("%s: %s: %w", flag, value, err)
}

// listen opens the ports of the API and of the operator, and sees that those of the
// embedded engines are free. Without the role api there is no listener for it.
func (c *serveCmd) listen(roles roleSet) (api, ops net.Listener, err error) {
	taken := make(ports)
	var errs []error
	// The engines listen for themselves, after this.
	for flag, port := range c.Engines.fixedPorts(roles) {
		l, err := taken.listen(flag, strconv.Itoa(port), net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer func() { _ = l.Close() }()
	}
	if roles.has(roleAPI) {
		if api, err = taken.listen("--api-addr", c.API.Addr, c.API.Addr); err != nil {
			errs = append(errs, err)
		}
	}
	if ops, err = taken.listen("--ops", c.Ops, c.Ops); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		for _, l := range []net.Listener{api, ops} {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, nil, err
	}
	return api, ops, nil
}

// fixedPorts are those that embedded engines were given by number, by flag.
func (f engineFlags) fixedPorts(roles roleSet) map[string]int {
	fixed := make(map[string]int)
	add := func(flag string, port int, runs bool) {
		if port != 0 && runs {
			fixed[flag] = port
		}
	}
	add("--kafka-port", f.KafkaPort, len(f.Kafka) == 0)
	add("--redis-port", f.RedisPort, len(f.Redis) == 0 && roles.needsRedis())
	add("--clickhouse-port", f.ClickhousePort, len(f.Clickhouse) == 0 && roles.has(roleAnalytics))
	return fixed
}
