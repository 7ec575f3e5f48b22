package deliver

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"activityfeed/notify/prefs"
	pb "activityfeed/proto/activityfeed/v1"
)

// Config sets up the pushes. The zero value of every field means its default.
type Config struct {
	// URL is what a click on a notification opens; "?post=ID" or "?user=ID" is added.
	// Default "/": the app's own site.
	URL string `default:"/" help:"Address that a click on a notification opens; ?post=ID or ?user=ID is added."`
	// Workers is how many pushes of one provider are under way at the same time in
	// this process. Default 64.
	Workers int `default:"64" help:"Pushes of one provider that are under way at the same time."`
	// Timeout bounds one attempt, over the sender's own deadline. Default 15 s.
	Timeout time.Duration `default:"15s" help:"Longest time that one attempt to push may take."`
	// PerHour is how many pushes a person gets in an hour at most, if they did not
	// choose. Default 30.
	PerHour int `default:"30" help:"Pushes that a person gets in an hour at most; what is more waits and is put together."`

	// PostWindow is how long a push of a new post waits for others by its author.
	// Default 30 s.
	PostWindow time.Duration `default:"30s" help:"How long the push of a post waits for more by the same author; negative: not at all."`
	// FollowWindow is how long a push of a new follower waits for others. Default 30 s.
	FollowWindow time.Duration `default:"30s" help:"How long the push of a new follower waits for more; negative: not at all."`
	// PostTTL is how old a post may get before it is not pushed. Default 4 hours.
	PostTTL time.Duration `default:"4h" help:"How old a post may get before it is not pushed any more."`
	// MentionTTL is how old a mention may get before it is not pushed. Default 24 hours.
	MentionTTL time.Duration `default:"24h" help:"How old a mention may get before it is not pushed any more."`
	// FollowTTL is how old a follow may get before it is not pushed. Default 24 hours.
	FollowTTL time.Duration `default:"24h" help:"How old a follow may get before it is not pushed any more."`

	// StaleAfter is how long a device of FCM is sent to after it was registered last;
	// apps should register once a month at least, and whenever they start. FCM forgets an
	// Android device that was silent for 270 days, and long before that what is sent to it
	// arrives nowhere (/docs/cloud-messaging/manage-tokens). Default 270 days; negative:
	// for ever.
	StaleAfter time.Duration `default:"6480h" help:"How long a device of FCM is sent to after it was registered last; negative: for ever."`

	// Lease is how long a worker may hold a job before another one takes it. Default
	// 1 minute.
	Lease time.Duration `default:"1m" help:"How long a push may be in the hands of a process that died before another one takes it."`
	// Poll is how often to look for jobs of other processes. Default 500 ms.
	Poll time.Duration `default:"500ms" help:"How often to look for pushes that other processes scheduled."`
	// Shards is over how many hash tags each queue spreads; all processes must agree
	// on it. Default 4.
	Shards int `default:"4" help:"Parts of each queue of pushes in Redis. All processes must agree on it."`
	// Grace is how long pushes under way may go on at a stop. Default 3 s.
	Grace time.Duration `default:"3s" help:"How long pushes under way may go on at a stop."`
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	c.URL = cmp.Or(c.URL, "/")
	c.Workers = cmp.Or(c.Workers, 64)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.PerHour = cmp.Or(c.PerHour, 30)
	c.PostWindow = cmp.Or(c.PostWindow, 30*time.Second)
	c.FollowWindow = cmp.Or(c.FollowWindow, 30*time.Second)
	c.PostTTL = cmp.Or(c.PostTTL, 4*time.Hour)
	c.MentionTTL = cmp.Or(c.MentionTTL, 24*time.Hour)
	c.FollowTTL = cmp.Or(c.FollowTTL, 24*time.Hour)
	c.StaleAfter = cmp.Or(c.StaleAfter, 270*24*time.Hour)
	c.Lease = cmp.Or(c.Lease, time.Minute)
	c.Poll = cmp.Or(c.Poll, 500*time.Millisecond)
	c.Shards = cmp.Or(c.Shards, 4)
	c.Grace = cmp.Or(c.Grace, 3*time.Second)
	return c
}

// Validate returns all faults of the configuration, joined. Zero values are no
// faults.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"workers", int64(c.Workers)},
		{"timeout", int64(c.Timeout)},
		{"per-hour", int64(c.PerHour)},
		{"post-ttl", int64(c.PostTTL)},
		{"mention-ttl", int64(c.MentionTTL)},
		{"follow-ttl", int64(c.FollowTTL)},
		{"lease", int64(c.Lease)},
		{"poll", int64(c.Poll)},
		{"shards", int64(c.Shards)},
		{"grace", int64(c.Grace)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("notify: push-%s: must not be negative", f.name))
		}
	}
	if d := c.WithDefaults(); d.Lease <= d.Timeout {
		errs = append(errs, fmt.Errorf("notify: push-lease: %s is not longer than push-timeout, %s: a push under way would be sent twice", d.Lease, d.Timeout))
	}
	return errors.Join(errs...)
}

// rules are the server's own for each type.
func (c Config) rules() map[pb.NotificationType]prefs.Defaults {
	return map[pb.NotificationType]prefs.Defaults{
		pb.NotificationType_NOTIFICATION_TYPE_POST:    {Coalesce: max(c.PostWindow, 0), TTL: c.PostTTL},
		pb.NotificationType_NOTIFICATION_TYPE_MENTION: {TTL: c.MentionTTL},
		pb.NotificationType_NOTIFICATION_TYPE_FOLLOW:  {Coalesce: max(c.FollowWindow, 0), TTL: c.FollowTTL},
	}
}
