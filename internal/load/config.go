package load

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"activityfeed/internal/load/longrun"
	pb "activityfeed/proto/activityfeed/v1"
)

// Config says what a run does. Its tags are those of the command line.
type Config struct {
	// Graph is who follows whom. Required by Run.
	Graph *Graph `kong:"-"`
	// Terminal draws a moving progress bar; false prints plain lines.
	Terminal bool `kong:"-"`

	// Posts is how many photos are posted. Zero: none.
	Posts int `help:"Photos to post." default:"1000"`
	// FollowsOnly sends the graph and nothing else: no posts, no churn. Default false.
	FollowsOnly bool `help:"Send only the follows: no posts, no unfollows, no blocks, no mutes."`
	// Seed names the plan: the same graph, settings and seed give the same commands
	// with the same idempotency keys. Use another seed for another plan on the same
	// server. Default 1; zero is a seed like any other.
	Seed uint64 `help:"Names the plan; take another one for another plan on the same server." default:"1"`
	// Interleave mixes follows with posts and everything else. Default false: first
	// all follows, then the rest.
	Interleave bool `help:"Mix follows with posts instead of sending all follows first."`
	// Deletes is the share of the posts that are deleted again, 0 to 1. Default and
	// zero: none.
	Deletes float64 `help:"Share of the posts that are deleted again, 0 to 1." default:"0"`
	// Unfollows is the share of the follows that end again, 0 to 1; half of them
	// begin anew later. Default and zero: none.
	Unfollows float64 `help:"Share of the follows that end again, 0 to 1; half of these begin anew." default:"0"`
	// Blocks is how many pairs block each other, as a share of the follows, 0 to 1;
	// a quarter of the blocks is lifted later. Default and zero: none.
	Blocks float64 `help:"Blocks between connected users, as a share of the follows, 0 to 1; a quarter is lifted again." default:"0"`
	// Mutes is how many followers mute whom they follow, as a share of the follows, 0
	// to 1; a quarter of the mutes is lifted later. Default and zero: none.
	Mutes float64 `help:"Mutes of followed users, as a share of the follows, 0 to 1; a quarter is lifted again." default:"0"`
	// Warm is the share of the users who open their home feed before the posts come
	// (with Interleave: at some time), 0 to 1, so that posts are pushed into feeds
	// that exist instead of none. Default and zero: none.
	Warm float64 `help:"Share of the users who open their feed before the posts come, 0 to 1." default:"0"`
	// NotificationLevel is what followers ask to be told: "default" (the server's
	// setting), "none" or "all". Empty means default.
	NotificationLevel string `help:"What followers ask to be told of posts: default (the server's setting), none or all." enum:"default,none,all" default:"default"`
	// Workers is how many commands are under way at once. Default and zero: 64.
	Workers int `help:"Commands under way at once; 0 for 64." default:"64"`
	// CallTimeout is the deadline of one attempt. Default and zero: 10 s.
	CallTimeout time.Duration `help:"Deadline of one attempt of a command; 0 for 10s." default:"10s"`
	// Patience is how long one command may fail because the server is away before
	// the run gives up. Default and zero: 2 min.
	Patience time.Duration `help:"How long to wait for a server that is away before giving up; 0 for 2m." default:"2m"`
	// ProgressInterval is the time between plain progress lines. Default and zero: 5 s.
	ProgressInterval time.Duration `help:"Time between progress lines when the output is no terminal; 0 for 5s." default:"5s"`
}

// notificationLevels maps the setting's words to those of the API.
var notificationLevels = map[string]pb.NotificationLevel{
	"default": pb.NotificationLevel_NOTIFICATION_LEVEL_UNSPECIFIED,
	"none":    pb.NotificationLevel_NOTIFICATION_LEVEL_NONE,
	"all":     pb.NotificationLevel_NOTIFICATION_LEVEL_ALL,
}

// Validate returns all faults of the settings, joined. The graph is looked at by
// Run: the command line validates settings before it has read one.
func (c Config) Validate() error {
	var faults []error
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	add(c.Graph != nil && c.Posts > 0 && len(c.Graph.Users) == 0, "an empty graph has nobody to post")
	add(c.Posts < 0, "posts: %d is negative", c.Posts)
	for _, share := range []struct {
		name  string
		value float64
	}{{"deletes", c.Deletes}, {"unfollows", c.Unfollows}, {"blocks", c.Blocks}, {"mutes", c.Mutes}, {"warm", c.Warm}} {
		add(!(share.value >= 0 && share.value <= 1), "%s: %v is no share from 0 to 1", share.name, share.value)
	}
	_, known := notificationLevels[cmp.Or(c.NotificationLevel, "default")]
	add(!known, "notification level: %q is none of default, none, all", c.NotificationLevel)
	add(c.Workers < 0, "workers: %d is negative", c.Workers)
	add(c.CallTimeout < 0, "call timeout: %s is negative", c.CallTimeout)
	add(c.Patience < 0, "patience: %s is negative", c.Patience)
	add(c.ProgressInterval < 0, "progress interval: %s is negative", c.ProgressInterval)
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.NotificationLevel = cmp.Or(c.NotificationLevel, "default")
	c.Workers = cmp.Or(c.Workers, 64)
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Second)
	c.Patience = cmp.Or(c.Patience, 2*time.Minute)
	c.ProgressInterval = cmp.Or(c.ProgressInterval, longrun.DefaultInterval)
	if c.FollowsOnly {
		c.Posts, c.Deletes, c.Unfollows, c.Blocks, c.Mutes, c.Warm = 0, 0, 0, 0, 0, 0
	}
	return c
}
