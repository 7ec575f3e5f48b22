package redisfault_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
)

// reply is an error that Redis answered with.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want fault.Kind
	}{
		{"loading", reply("LOADING Redis is loading the dataset in memory"), fault.Unavailable},
		{"failover", reply("READONLY You can't write against a read only replica."), fault.Unavailable},
		{"memory", reply("OOM command not allowed when used memory > 'maxmemory'."), fault.Unavailable},
		{"cluster", reply("CLUSTERDOWN The cluster is down"), fault.Unavailable},
		{"moved", reply("MOVED 3999 127.0.0.1:6381"), fault.Unavailable},
		{"memory, seen by a script", reply("ERR OOM command not allowed"), fault.Unavailable},
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, fault.Unavailable},
		{"clients", reply("ERR max number of clients reached"), fault.Unavailable},
		{"script gone twice", reply("NOSCRIPT No matching script."), fault.Unavailable},
		{"broken connection", io.ErrUnexpectedEOF, fault.Unavailable},
		{"pool", redis.ErrPoolTimeout, fault.Unavailable},
		{"deadline", context.DeadlineExceeded, fault.Unavailable},
		{"cancelled", context.Canceled, fault.Internal},
		{"wrong type", reply("WRONGTYPE Operation against a key holding the wrong kind of value"), fault.Internal},
		{"cross slot", reply("CROSSSLOT Keys in request don't hash to the same slot"), fault.Internal},
		{"script", reply("ERR user_script:3: attempt to index a nil value"), fault.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := redisfault.Of(tt.err, "read feed of %s", "ann")
			if got := fault.KindOf(err); got != tt.want || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "read feed of ann") {
				t.Errorf("redisfault.Of(%v) = %v of kind %v, want %v", tt.err, err, got, tt.want)
			}
		})
	}
	if redisfault.Of(nil, "x") != nil {
		t.Error("redisfault.Of(nil) is an error")
	}
}
