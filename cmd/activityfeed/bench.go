package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"activityfeed/analytics"
	"activityfeed/internal/bench"
	"activityfeed/internal/embedded"
)

// benchCmd measures this system beside its ceilings, on engines of its own.
type benchCmd struct {
	Fanout     benchFanoutCmd     `cmd:"" help:"Deliveries a second from the log to the feeds, beside redis-benchmark and beside ZADD."`
	Read       benchReadCmd       `cmd:"" help:"Pages of a warm home feed a second, beside a bare gRPC method."`
	Visible    benchVisibleCmd    `cmd:"" help:"Time from a post to a follower's feed at half load, beside the broker alone."`
	Scale      benchScaleCmd      `cmd:"" help:"Cost of a delivery among many users, beside that among few. The feeds of the many take 9 GB."`
	Subscriber benchSubscriberCmd `cmd:"" help:"Messages a second with handlers of 1 ms, beside watermill-kafka."`
	Push       benchPushCmd       `cmd:"" help:"Web Push messages a second to a local push service, beside a bare HTTP/2 client."`
	Analytics  benchAnalyticsCmd  `cmd:"" help:"Rows a second from the log to ClickHouse, beside clickhouse-go alone."`
}

// What a benchmark can be asked for: nobody follows in a population of one, and what is
// larger than the most does not fit into a machine.
const (
	leastUsers = 2
	mostUsers  = 100_000_000
	mostEvents = 1_000_000_000
)

// inRange says what is wrong with the value of a flag.
func inRange(flag string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("--%s: %d is not in %d..%d", flag, value, least, most)
	}
	return nil
}

type benchFanoutCmd struct {
	Users int `default:"20000" help:"Users, each with a full feed."`
	Posts int `default:"45000" help:"Posts in all rounds together."`
}

// Validate refuses what cannot be measured.
func (c *benchFanoutCmd) Validate() error {
	// Each of the five rounds has a post at least.
	return errors.Join(inRange("users", c.Users, leastUsers, mostUsers), inRange("posts", c.Posts, 5, mostEvents))
}

// Run prints the table and the ratio.
func (c *benchFanoutCmd) Run(ctx context.Context, con *console) error {
	return measure(ctx, con, roleSet{roleFeed}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		return bench.Fanout(ctx, con.out, bench.FanoutConfig{
			Brokers: e.brokers, RedisAddr: e.endpoints.Redis[0], Users: c.Users, Posts: c.Posts,
		}, log)
	})
}

type benchReadCmd struct {
	Users int `default:"2000" help:"Readers, who are the authors as well."`
	Posts int `default:"20000" help:"Posts of all authors together."`
}

// Validate refuses what cannot be measured.
func (c *benchReadCmd) Validate() error {
	if err := inRange("users", c.Users, leastUsers, mostUsers); err != nil {
		return err
	}
	// Each reader has a full page, of whom at most 50 authors post in turns.
	authors := min(50, c.Users-1)
	return inRange("posts", c.Posts, c.Users*((20+authors-1)/authors), mostEvents)
}

// Run prints the table and the ratio.
func (c *benchReadCmd) Run(ctx context.Context, con *console) error {
	return measure(ctx, con, roleSet{roleFeed}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		return bench.Read(ctx, con.out, bench.ReadConfig{
			Brokers: e.brokers, RedisAddr: e.endpoints.Redis[0], Users: c.Users, Posts: c.Posts,
		}, log)
	})
}

type benchVisibleCmd struct {
	Users int `default:"10000" help:"Users, each with a full feed."`
}

// Validate refuses what cannot be measured.
func (c *benchVisibleCmd) Validate() error {
	return inRange("users", c.Users, leastUsers, mostUsers)
}

// Run prints the table and the ratio.
func (c *benchVisibleCmd) Run(ctx context.Context, con *console) error {
	return measure(ctx, con, roleSet{roleFeed}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		return bench.Visible(ctx, con.out, bench.VisibleConfig{Brokers: e.brokers, RedisAddr: e.endpoints.Redis[0], Users: c.Users}, log)
	})
}

type benchScaleCmd struct {
	Small int `default:"10000" help:"Users of the small population."`
	Large int `default:"1000000" help:"Users of the large one; each has a full feed of 9 KB."`
}

// Validate refuses what cannot be measured.
func (c *benchScaleCmd) Validate() error {
	return errors.Join(inRange("small", c.Small, leastUsers, mostUsers), inRange("large", c.Large, leastUsers, mostUsers))
}

// Run prints the table and the ratio.
func (c *benchScaleCmd) Run(ctx context.Context, con *console) error {
	dir, err := os.MkdirTemp("", "activityfeed-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return measure(ctx, con, roleSet{}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		var addrs []string
		for _, name := range []string{"small", "large"} {
			// Without a file: writing 9 GB anew in the middle would be all that is measured.
			r, err := embedded.StartRedis(ctx, embedded.RedisConfig{Dir: filepath.Join(dir, name), NoPersist: true}, log)
			if err != nil {
				return bench.Result{}, err
			}
			defer func() { _ = r.Close() }() // nothing in it is needed any more
			addrs = append(addrs, r.Addr())
		}
		return bench.Scale(ctx, con.out, bench.ScaleConfig{
			Brokers: e.brokers, SmallAddr: addrs[0], LargeAddr: addrs[1], Small: c.Small, Large: c.Large,
		}, log)
	})
}

type benchSubscriberCmd struct{}

// Run prints the table and the ratio.
func (c *benchSubscriberCmd) Run(ctx context.Context, con *console) error {
	return measure(ctx, con, roleSet{}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		return bench.Subscriber(ctx, con.out, e.brokers, log)
	})
}

type benchPushCmd struct {
	Pushes int `default:"100000" help:"Messages that each side sends."`
}

// Validate refuses what cannot be measured.
func (c *benchPushCmd) Validate() error {
	return inRange("pushes", c.Pushes, 1, mostEvents)
}

// Run prints the table and the ratio.
func (c *benchPushCmd) Run(ctx context.Context, con *console) error {
	dir, err := os.MkdirTemp("", "activityfeed-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := con.quietLog()
	if err != nil {
		return err
	}
	result, err := bench.Push(ctx, con.out, bench.PushConfig{Pushes: c.Pushes, KeyFile: filepath.Join(dir, "vapid.pem")}, log)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(con.out, result)
	return err
}

type benchAnalyticsCmd struct {
	Rows int `default:"600000" help:"Events on the log."`
}

// Validate refuses what cannot be measured.
func (c *benchAnalyticsCmd) Validate() error {
	return inRange("rows", c.Rows, 1, mostEvents)
}

// Run prints the table and the ratio.
func (c *benchAnalyticsCmd) Run(ctx context.Context, con *console) error {
	return measure(ctx, con, roleSet{roleAnalytics}, func(e *engines, log *slog.Logger) (bench.Result, error) {
		if len(e.clickhouse.addr) == 0 {
			return bench.Result{}, embedded.ErrEngineMissing
		}
		return bench.Analytics(ctx, con.out, bench.AnalyticsConfig{
			Brokers: e.brokers, Rows: c.Rows,
			ClickHouse: analytics.Config{Addr: e.clickhouse.addr[0], Username: e.clickhouse.username, Password: e.clickhouse.password},
		}, log)
	})
}

// measure runs a benchmark on embedded engines in a folder of its own.
func measure(ctx context.Context, con *console, roles roleSet, run func(*engines, *slog.Logger) (bench.Result, error)) error {
	dir, err := os.MkdirTemp("", "activityfeed-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := con.quietLog()
	if err != nil {
		return err
	}
	e, err := openEngines(ctx, engineFlags{DataDir: dir, Sync: "os"}, roles, log)
	if err != nil {
		return err
	}
	defer e.close(log)
	result, err := run(e, log)
	if err != nil {
		return err
	}
	_, err = io.WriteString(con.out, fmt.Sprintln(result))
	return err
}
