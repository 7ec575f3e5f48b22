package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	pb "activityfeed/proto/activityfeed/v1"
)

// Conns is a few connections to one server, taken in turn. It is a
// grpc.ClientConnInterface, so generated clients work on it.
type Conns struct {
	conns []*grpc.ClientConn
	next  atomic.Uint64
}

// Dial makes n connections to a server, which need not be up yet. Unlike gRPC's
// default, which waits for up to two minutes, they try again every second, so that
// a run goes on soon after the server is back.
func Dial(target string, n int, opts ...grpc.DialOption) (*Conns, error) {
	reconnect := backoff.DefaultConfig
	reconnect.BaseDelay, reconnect.MaxDelay = 50*time.Millisecond, time.Second
	opts = append([]grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second})}, opts...)
	c := &Conns{}
	for range max(n, 1) {
		conn, err := grpc.NewClient(target, opts...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("dial %s: %w", target, err), c.Close())
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

// Clients returns the clients of every service that a load needs.
func (c *Conns) Clients() Clients {
	return Clients{
		Post:  pb.NewPostServiceClient(c),
		Graph: pb.NewGraphServiceClient(c),
		Feed:  pb.NewFeedServiceClient(c),
	}
}

// Invoke makes a call on the next connection.
func (c *Conns) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.pick().Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream on the next connection.
func (c *Conns) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.pick().NewStream(ctx, desc, method, opts...)
}

// Close closes all connections.
func (c *Conns) Close() error {
	faults := make([]error, len(c.conns))
	for i, conn := range c.conns {
		faults[i] = conn.Close()
	}
	return errors.Join(faults...)
}

func (c *Conns) pick() *grpc.ClientConn {
	return c.conns[c.next.Add(1)%uint64(len(c.conns))]
}
