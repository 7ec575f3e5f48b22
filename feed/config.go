package feed

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config sets up a [Feed]. The zero value of every field means its default, so
// that a configuration of yesterday goes on working.
type Config struct {
	// Cap is how many posts the stored list of a home feed keeps; older ones are
	// pulled from the authors' lists while a user scrolls. Default 800, which is
	// 8 KB of Redis a feed.
	Cap int `default:"800" help:"Posts that the stored list of a home feed keeps."`
	// Slack is how far a list may grow beyond Cap before it is trimmed; it spreads
	// the cost of a trim over as many pushes. Default a tenth of Cap.
	Slack int `default:"0" help:"Posts above the cap that are trimmed at once; 0 means a tenth of it."`
	// ColdAfter is how long a feed that nobody reads stays in memory. It is built
	// again at the next read. Default 30 days.
	ColdAfter time.Duration `default:"720h" help:"How long the list of a feed that nobody reads is kept."`
	// TombstoneTTL is how long a delete or an unfollow is remembered: longer than
	// anything older may still be on its way. Default 30 days.
	TombstoneTTL time.Duration `default:"720h" help:"How long deletes and unfollows are remembered against late events."`

	// LargeAuthor is above how many followers an author's posts are not pushed into
	// their feeds but merged when these are read. Default 10,000; negative means
	// never.
	LargeAuthor int `default:"10000" help:"Followers above which an author's posts are merged at read; negative: none."`
	// SmallAuthor is below how many followers such an author's posts are pushed
	// again. Default 80 % of LargeAuthor.
	SmallAuthor int `default:"0" help:"Followers below which a large author's posts are pushed again; 0 means 80 % of the above."`

	// RedisTimeout bounds every call to Redis, at most 10 s. Default 3 s.
	RedisTimeout time.Duration `default:"3s" help:"Deadline of one call to Redis."`
	// Pipelines is how many pipelines of the write side are under way at once in
	// this process, in each of three lanes: questions, posts and large audiences.
	// Default 2: one is answered while the other is written.
	Pipelines int `default:"2" help:"Pipelines to Redis under way at once, in each of three lanes."`
	// PipelineSize is half of how many commands travel in one pipeline while more
	// wait than can be sent. Default 2,000: the larger the pipelines, the more Redis
	// reads and answers at once.
	PipelineSize int `default:"2000" help:"Commands in one pipeline to Redis."`
	// AudienceCache is how many followers are kept in memory, at about 24 bytes and
	// the length of their ids each, so that a busy author's are not read again for
	// every post. They are checked against Redis before each use. Default 1,000,000;
	// negative means none.
	AudienceCache int `default:"1000000" help:"Followers of busy authors kept in memory, about 40 bytes each; negative: none."`
	// BodyCache is how many bytes of posts a process keeps in memory for its readers;
	// deletes are true on the next read all the same. Default 64 MiB; negative means
	// none.
	BodyCache int `default:"67108864" help:"Bytes of posts kept in memory for readers; negative: none."`
	// PageCache is how many bytes of first pages a process keeps in memory for those who
	// read them again; Redis tells of changes, so they are as exact as others. It needs
	// BodyCache, and one Redis: no cluster, no failover group. Default 64 MiB; negative
	// means none.
	PageCache int `default:"67108864" help:"Bytes of first pages kept in memory for those who read them again; negative: none."`
	// ViewCache is how many authors of how many readers a process knows to belong
	// into their feeds, at about 60 bytes each. They are checked with each read.
	// Default 500,000; negative means none.
	ViewCache int `default:"500000" help:"Readers' authors kept in memory, about 60 bytes each; negative: none."`

	// Rebuilds is how many cold feeds this process builds at once. Default 8.
	Rebuilds int `default:"8" help:"Cold feeds built at once."`
	// RebuildWait is how long the reader of a cold feed waits for its turn to be built,
	// if the call's own deadline does not come first. Whoever would wait longer is
	// refused at once and told when to come again. Default 30 s.
	RebuildWait time.Duration `default:"30s" help:"Longest wait for the turn of a cold feed; whoever would wait longer is told at once when to come again."`
	// RebuildTimeout bounds the building of one feed once it is its turn, and is how long another
	// process believes that it is still under way. Default 10 s.
	RebuildTimeout time.Duration `default:"10s" help:"Deadline for building one cold feed."`

	// WatchStart is how long a live stream may take to begin. Default 5 s.
	WatchStart time.Duration `default:"5s" help:"How long a live stream may take to begin before it is refused."`
	// WatchQueue is how much news may pile up for one live stream before its client
	// is cut off. Default 256.
	WatchQueue int `default:"256" help:"News that may pile up for one live stream before its client is cut off."`
	// SlowClient is how long a client may leave live news unread in the buffers
	// between us before its stream is cut off. Default 10 s.
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
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	c.Cap = cmp.Or(c.Cap, 800)
	c.Slack = cmp.Or(c.Slack, max(1, c.Cap/10))
	c.ColdAfter = cmp.Or(c.ColdAfter, 30*24*time.Hour)
	c.TombstoneTTL = cmp.Or(c.TombstoneTTL, 30*24*time.Hour)
	c.LargeAuthor = cmp.Or(c.LargeAuthor, 10_000)
	c.SmallAuthor = cmp.Or(c.SmallAuthor, max(1, c.LargeAuthor-c.LargeAuthor/5))
	c.RedisTimeout = cmp.Or(c.RedisTimeout, 3*time.Second)
	c.Pipelines = cmp.Or(c.Pipelines, 2)
	c.PipelineSize = cmp.Or(c.PipelineSize, 2000)
	c.AudienceCache = cmp.Or(c.AudienceCache, 1_000_000)
	c.BodyCache = cmp.Or(c.BodyCache, 64<<20)
	c.PageCache = cmp.Or(c.PageCache, 64<<20)
	c.ViewCache = cmp.Or(c.ViewCache, 500_000)
	c.Rebuilds = cmp.Or(c.Rebuilds, 8)
	c.RebuildWait = cmp.Or(c.RebuildWait, 30*time.Second)
	c.RebuildTimeout = cmp.Or(c.RebuildTimeout, 10*time.Second)
	c.WatchStart = cmp.Or(c.WatchStart, 5*time.Second)
	c.WatchQueue = cmp.Or(c.WatchQueue, 256)
	c.SlowClient = cmp.Or(c.SlowClient, 10*time.Second)
	c.Retries = cmp.Or(c.Retries, 3)
	c.RetryInitial = cmp.Or(c.RetryInitial, 50*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 8)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 30*time.Second)
	return c
}

// maxCap keeps a list, and the script that writes it, small enough not to hold
// up the others on one Redis: writing 10,000 entries takes about 1 ms.
const maxCap = 10_000

// Validate returns all faults of the configuration, joined; settings have the names of
// their flags. Zero values are no faults.
func (c Config) Validate() error {
	var errs []error
	if c.Cap < 0 || c.Cap > maxCap {
		errs = append(errs, fmt.Errorf("feed: cap: %d is not in 0..%d", c.Cap, maxCap))
	}
	if d := c.withDefaults(); d.LargeAuthor > 0 && d.SmallAuthor > d.LargeAuthor {
		errs = append(errs, fmt.Errorf("feed: small-author: %d is above large-author, %d", d.SmallAuthor, d.LargeAuthor))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"slack", int64(c.Slack)},
		{"cold-after", int64(c.ColdAfter)},
		{"tombstone-ttl", int64(c.TombstoneTTL)},
		{"small-author", int64(c.SmallAuthor)},
		{"redis-timeout", int64(c.RedisTimeout)},
		{"pipelines", int64(c.Pipelines)},
		{"pipeline-size", int64(c.PipelineSize)},
		{"rebuilds", int64(c.Rebuilds)},
		{"rebuild-wait", int64(c.RebuildWait)},
		{"rebuild-timeout", int64(c.RebuildTimeout)},
		{"watch-start", int64(c.WatchStart)},
		{"watch-queue", int64(c.WatchQueue)},
		{"slow-client", int64(c.SlowClient)},
		{"retry-initial", int64(c.RetryInitial)},
		{"retry-max", int64(c.RetryMax)},
		{"max-attempts", int64(c.MaxAttempts)},
		{"close-timeout", int64(c.CloseTimeout)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("feed: %s: must not be negative", f.name))
		}
	}
	if c.RedisTimeout > maxRedisTimeout {
		errs = append(errs, fmt.Errorf("feed: redis-timeout: %v is above %v", c.RedisTimeout, maxRedisTimeout))
	}
	return errors.Join(errs...)
}
