// Package redisfault gives the errors of Redis their meaning, in one place for the
// two domains that keep something there.
package redisfault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/fault"
)

// outageReplies are the error replies with which a Redis says that it cannot
// serve now, though the command is right. The first word decides.
// Source: redis.io/docs "Redis error replies" and server.c, shared.* objects.
var outageReplies = map[string]bool{
	"LOADING":     true, // reading its data after a start
	"READONLY":    true, // a replica: a failover is under way
	"MASTERDOWN":  true, // a replica that lost its master
	"NOREPLICAS":  true, // min-replicas-to-write
	"MISCONF":     true, // cannot save, so it takes no writes
	"OOM":         true, // maxmemory
	"BUSY":        true, // a script runs too long
	"CLUSTERDOWN": true,
	"MOVED":       true, // the client's redirects were used up
	"ASK":         true,
	"TRYAGAIN":    true, // a slot is moving
	"NOSCRIPT":    true, // another failover between loading and calling
	"NOAUTH":      true, // credentials are being changed: no event is at fault
	"WRONGPASS":   true,
	"NOPERM":      true,
}

// Of gives an error of Redis its meaning: what a working Redis would not have said
// is an outage, the rest is a bug of ours. op tells in plain words what was tried
// for whom, for the log. A nil err gives nil.
func Of(err error, op string, args ...any) error {
	if err == nil {
		return nil
	}
	op = fmt.Sprintf(op, args...)
	var reply redis.Error
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	case !errors.As(err, &reply):
		// Timeouts, refused and broken connections, an exhausted pool.
		return fault.OutageAt(op, err)
	}
	text := strings.TrimPrefix(reply.Error(), "ERR ")
	word, _, _ := strings.Cut(text, " ")
	if outageReplies[word] || strings.HasPrefix(text, "max number of clients reached") {
		return fault.OutageAt(op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
