package notify

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"activityfeed/notify/deliver"
)

const day = 24 * time.Hour

// Config sets up a [Notify]. The zero value of every field means its default, so
// that a configuration of yesterday goes on working.
type Config struct {
	// InboxRows is how many notifications an inbox keeps. Default 200, which is
	// 6 KB of Redis a person.
	InboxRows int `default:"200" help:"Notifications that an inbox keeps."`
	// Retention is how long a notification is shown, and how long an inbox in which
	// nothing happens is kept. Events older than that are not told any more.
	// Default 30 days.
	Retention time.Duration `default:"720h" help:"How long a notification is shown."`
	// TombstoneTTL is how long the end of a follow, a block or a mute is
	// remembered: longer than anything older may still be on its way. It is at least
	// Retention, so that who follows again is told of once. Default 30 days.
	TombstoneTTL time.Duration `default:"720h" help:"How long ended follows, blocks and mutes are remembered against late events."`

	// RedisTimeout bounds every call to Redis. Default 3 s.
	RedisTimeout time.Duration `default:"3s" help:"Deadline of one call to Redis."`
	// PipelineSize is how many recipients travel in one pipeline. Default 500.
	PipelineSize int `default:"500" help:"Recipients in one pipeline to Redis."`

	// WatchStart is how long a live stream may take to begin. Default 5 s.
	WatchStart time.Duration `default:"5s" help:"How long a live stream may take to begin before it is refused."`
	// WatchRefresh is the time between two signs that an inbox is being watched;
	// without one for four times as long it counts as unwatched. Default 30 s.
	WatchRefresh time.Duration `default:"30s" help:"Time between two signs in Redis that an inbox is being watched."`
	// SlowClient is how long a client may leave a live notification unread in the
	// buffers between us before its stream is cut off. Default 10 s.
	SlowClient time.Duration `default:"10s" help:"How long a live stream may be stuck before its client is cut off."`

	// Retries is how often a failed event is tried again in place before its lane
	// backs off. Default 3; negative means never.
	Retries int `default:"3" help:"Quick retries of an event before its lane backs off; negative: none."`
	// RetryInitial is the bound of the first delay; it doubles. Default 50 ms.
	RetryInitial time.Duration `default:"50ms" help:"First delay of a quick retry, doubling."`
	// RetryMax is the largest delay. Default 1 s.
	RetryMax time.Duration `default:"1s" help:"Largest delay of a quick retry."`
	// MaxAttempts is how many deliveries of one event must fail, while its
	// neighbours succeed, before it goes to poison. Default 8.
	MaxAttempts int `default:"8" help:"Failed deliveries before an event may be suspected as poison."`
	// CloseTimeout is how long Run waits for the handlers at the end. It should be
	// longer than the subscriber's own drain. Default 30 s.
	CloseTimeout time.Duration `default:"30s" help:"How long a stop waits for events in flight."`

	// Push is about what devices are told.
	Push deliver.Config `embed:"" prefix:"push-"`
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	c.InboxRows = cmp.Or(c.InboxRows, 200)
	c.Retention = cmp.Or(c.Retention, 30*day)
	c.TombstoneTTL = cmp.Or(c.TombstoneTTL, 30*day)
	c.RedisTimeout = cmp.Or(c.RedisTimeout, 3*time.Second)
	c.PipelineSize = cmp.Or(c.PipelineSize, 500)
	c.WatchStart = cmp.Or(c.WatchStart, 5*time.Second)
	c.WatchRefresh = cmp.Or(c.WatchRefresh, 30*time.Second)
	c.SlowClient = cmp.Or(c.SlowClient, 10*time.Second)
	c.Retries = cmp.Or(c.Retries, 3)
	c.RetryInitial = cmp.Or(c.RetryInitial, 50*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 8)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 30*time.Second)
	c.Push = c.Push.WithDefaults()
	return c
}

// maxInboxRows keeps the scripts that walk an inbox short: a late row takes about
// 0.4 ms in an inbox of 1,000.
const maxInboxRows = 5_000

// Validate returns all faults of the configuration, joined; settings have the names of
// their flags. Zero values are no faults.
func (c Config) Validate() error {
	errs := []error{c.Push.Validate()}
	if c.InboxRows < 0 || c.InboxRows > maxInboxRows {
		errs = append(errs, fmt.Errorf("notify: inbox-rows: %d is not in 0..%d", c.InboxRows, maxInboxRows))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"retention", int64(c.Retention)},
		{"tombstone-ttl", int64(c.TombstoneTTL)},
		{"redis-timeout", int64(c.RedisTimeout)},
		{"pipeline-size", int64(c.PipelineSize)},
		{"watch-start", int64(c.WatchStart)},
		{"watch-refresh", int64(c.WatchRefresh)},
		{"slow-client", int64(c.SlowClient)},
		{"retry-initial", int64(c.RetryInitial)},
		{"retry-max", int64(c.RetryMax)},
		{"max-attempts", int64(c.MaxAttempts)},
		{"close-timeout", int64(c.CloseTimeout)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("notify: %s: must not be negative", f.name))
		}
	}
	return errors.Join(errs...)
}
