package embedded

import (
	"context"
	"net"
	"sync"
)

// gate is the broker's listener. Until it is opened only dial gets through, so
// that the log is checked before the first client writes to it; and dial keeps
// working without a TCP connection after that.
type gate struct {
	net.Listener

	opened   chan struct{}
	openOnce sync.Once
	closed   chan struct{}
	endOnce  sync.Once
	conns    chan net.Conn
	errs     chan error
	ended    chan struct{} // accept has returned
}

func newGate() *gate {
	return &gate{
		opened: make(chan struct{}), closed: make(chan struct{}), ended: make(chan struct{}),
		conns: make(chan net.Conn), errs: make(chan error, 1),
	}
}

// listen is the broker's listen function.
func (g *gate) listen(network, addr string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	g.Listener = l
	go g.accept() // Close waits for it
	return g, nil
}

// accept takes clients from the port once the gate is open. Until then they wait
// in the kernel's queue.
func (g *gate) accept() {
	defer close(g.ended)
	select {
	case <-g.opened:
	case <-g.closed:
		return
	}
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			g.errs <- err
			return
		}
		select {
		case g.conns <- conn:
		case <-g.closed:
			_ = conn.Close()
			return
		}
	}
}

// open lets clients in.
func (g *gate) open() { g.openOnce.Do(func() { close(g.opened) }) }

// dial is our own way in.
func (g *gate) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case g.conns <- theirs:
		return ours, nil
	case <-g.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept gives the broker the next connection.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case conn := <-g.conns:
		return conn, nil
	case err := <-g.errs:
		return nil, err
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (g *gate) Close() error {
	err := net.ErrClosed
	g.endOnce.Do(func() {
		close(g.closed)
		err = g.Listener.Close()
		<-g.ended
	})
	return err
}
