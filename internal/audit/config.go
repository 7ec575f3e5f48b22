package audit

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"activityfeed/internal/load/longrun"
)

// maxPageSize is the largest page that the API gives.
const maxPageSize = 100

// Config says what an audit looks at. Its tags are those of the command line.
type Config struct {
	// Terminal draws a moving progress bar; false prints plain lines.
	Terminal bool `kong:"-"`

	// Users is how many users' feeds are read, drawn by Seed. Default and zero: all.
	Users int `help:"How many users' feeds to read, drawn at random; 0 for all." default:"0"`
	// Seed draws the users. Default 1; zero is a seed like any other.
	Seed uint64 `help:"Draws the users." default:"1"`
	// Depth is how many posts of a feed are read at least, if it has them. Default
	// and zero: all.
	Depth int `help:"How many posts of each feed to read; 0 for all." default:"0"`
	// PageSize is how many posts are asked for at once, at most 100. Default and
	// zero: 100.
	PageSize int `help:"Posts to ask for at once, at most 100; 0 for 100." default:"100"`
	// Workers is how many feeds are read at once. Default and zero: 16.
	Workers int `help:"Feeds read at once; 0 for 16." default:"16"`
	// FeedGroup is the consumer group that the feeds are built by. Default and
	// empty: feed.
	FeedGroup string `help:"Consumer group that builds the feeds." default:"feed"`
	// StoredGroup is the consumer group that fills the analytics table. Default and
	// empty: analytics.
	StoredGroup string `help:"Consumer group that fills the analytics table." default:"analytics"`
	// Rounds is how often a feed is read again that differs while the log goes on.
	// Default and zero: 3.
	Rounds int `help:"How often to read a feed again that differs while events are accepted; 0 for 3." default:"3"`
	// Examples is how many differences the report shows. Default and zero: 10.
	Examples int `help:"Differences to show; 0 for 10." default:"10"`
	// CallTimeout is the deadline of one read of a page or a lag. Default and zero: 10 s.
	CallTimeout time.Duration `help:"Deadline of one call; 0 for 10s." default:"10s"`
	// Patience is how long a server may be away, and consumers without progress,
	// before the audit gives up. Default and zero: 2 min.
	Patience time.Duration `help:"How long to wait for a server that is away, or for consumers that make no progress; 0 for 2m." default:"2m"`
	// ProgressInterval is the time between plain progress lines. Default and zero: 5 s.
	ProgressInterval time.Duration `help:"Time between progress lines when the output is no terminal; 0 for 5s." default:"5s"`
}

// Validate returns all faults of the settings, joined.
func (c Config) Validate() error {
	var faults []error
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"users", int64(c.Users)},
		{"depth", int64(c.Depth)},
		{"page size", int64(c.PageSize)},
		{"workers", int64(c.Workers)},
		{"rounds", int64(c.Rounds)},
		{"examples", int64(c.Examples)},
		{"call timeout", int64(c.CallTimeout)},
		{"patience", int64(c.Patience)},
		{"progress interval", int64(c.ProgressInterval)},
	} {
		if n.value < 0 {
			faults = append(faults, fmt.Errorf("%s: %d is negative", n.name, n.value))
		}
	}
	if c.PageSize > maxPageSize {
		faults = append(faults, fmt.Errorf("page size: %d is more than %d, the most that the API gives", c.PageSize, maxPageSize))
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.PageSize = cmp.Or(c.PageSize, maxPageSize)
	c.Workers = cmp.Or(c.Workers, 16)
	c.FeedGroup = cmp.Or(c.FeedGroup, "feed")
	c.StoredGroup = cmp.Or(c.StoredGroup, "analytics")
	c.Rounds = cmp.Or(c.Rounds, 3)
	c.Examples = cmp.Or(c.Examples, 10)
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Second)
	c.Patience = cmp.Or(c.Patience, 2*time.Minute)
	c.ProgressInterval = cmp.Or(c.ProgressInterval, longrun.DefaultInterval)
	return c
}
