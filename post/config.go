package post

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config is the settings of the write side of photos. The zero value of each field
// means its default.
type Config struct {
	// IdempotencyWindow is how long a client's idempotency key is remembered.
	// Default 24h. The log has to reach back at least as far.
	IdempotencyWindow time.Duration `help:"How long an idempotency key is remembered." default:"24h"`
	// LookupTimeout is how long a command with a key may wait until the log has
	// been read to its end. Default 5s.
	LookupTimeout time.Duration `help:"How long a command with an idempotency key may wait for the log to be read." default:"5s"`
	// PublishTimeout is how long a fact may take to be in the log. Default 10s.
	PublishTimeout time.Duration `help:"How long a command may take to be in the log." default:"10s"`
}

func (c Config) withDefaults() Config {
	c.IdempotencyWindow = cmp.Or(c.IdempotencyWindow, 24*time.Hour)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, 5*time.Second)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 10*time.Second)
	return c
}

// Validate names every setting that cannot work, as its flag does. Zero values are fine.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"idempotency-window", c.IdempotencyWindow},
		{"lookup-timeout", c.LookupTimeout},
		{"publish-timeout", c.PublishTimeout},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("post: %s: %s is negative", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}
