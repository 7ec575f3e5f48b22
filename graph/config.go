package graph

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	pb "activityfeed/proto/activityfeed/v1"
)

// Config is the settings of the write side of the graph. The zero value of each
// field means its default.
type Config struct {
	// DefaultNotificationLevel is what a follower is told of an author's posts when
	// the command does not say: "all" (every post; the default) or "none".
	DefaultNotificationLevel string `help:"What followers who do not say are told of an author's posts: all or none." enum:"all,none" default:"all"`
	// PublishTimeout is how long a fact may take to be in the log. Default 10s.
	PublishTimeout time.Duration `help:"How long a command may take to be in the log." default:"10s"`
	// ListTimeout is how long reading a page of followers may take. Default 5s.
	ListTimeout time.Duration `help:"How long reading a page of followers may take." default:"5s"`
}

func (c Config) withDefaults() Config {
	c.DefaultNotificationLevel = cmp.Or(c.DefaultNotificationLevel, "all")
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 10*time.Second)
	c.ListTimeout = cmp.Or(c.ListTimeout, 5*time.Second)
	return c
}

// levels has the names of the notification levels in the settings.
var levels = map[string]pb.NotificationLevel{
	"":     pb.NotificationLevel_NOTIFICATION_LEVEL_ALL,
	"all":  pb.NotificationLevel_NOTIFICATION_LEVEL_ALL,
	"none": pb.NotificationLevel_NOTIFICATION_LEVEL_NONE,
}

// Validate names every setting that cannot work, as its flag does. Zero values are fine.
func (c Config) Validate() error {
	var errs []error
	if _, ok := levels[c.DefaultNotificationLevel]; !ok {
		errs = append(errs, fmt.Errorf("graph: default-notification-level: %q is not one of all, none", c.DefaultNotificationLevel))
	}
	if c.PublishTimeout < 0 {
		errs = append(errs, fmt.Errorf("graph: publish-timeout: %s is negative", c.PublishTimeout))
	}
	if c.ListTimeout < 0 {
		errs = append(errs, fmt.Errorf("graph: list-timeout: %s is negative", c.ListTimeout))
	}
	return errors.Join(errs...)
}
