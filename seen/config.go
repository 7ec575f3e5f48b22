package seen

import (
	"cmp"
	"fmt"
	"time"
)

// Config is the settings of the write side of marks. The zero value of each field
// means its default.
type Config struct {
	// PublishTimeout is how long a fact may take to be in the log. Default 10s.
	PublishTimeout time.Duration `help:"How long a mark may take to be in the log." default:"10s"`
}

func (c Config) withDefaults() Config {
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 10*time.Second)
	return c
}

// Validate names every setting that cannot work, as its flag does. Zero values are fine.
func (c Config) Validate() error {
	if c.PublishTimeout < 0 {
		return fmt.Errorf("seen: publish-timeout: %s is negative", c.PublishTimeout)
	}
	return nil
}
