package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load/longrun"
)

// FanoutTarget is the share of the ceiling that the fan-out must reach, see
// the targets in ARCHITECTURE.md.
const FanoutTarget = 0.8

// FanoutConfig says what [Fanout] measures and where.
type FanoutConfig struct {
	// Brokers are those of an empty log: posts are written to the topic activity.
	// Required.
	Brokers []string
	// RedisAddr is an empty Redis, host:port. Required.
	RedisAddr string
	// Users is how many users there are, each with a warm feed. Default 20,000.
	Users int
	// Posts is how many are pushed in all rounds together. Default 45,000.
	Posts int
	// Audience is how many followers a post has on average. Default 150.
	Audience int
	// Entries is how many each list holds before. Default 800.
	Entries int
	// Rounds is how often everything is measured; medians count. Default 3.
	Rounds int
	// SortedSets is how many of the lists are there as sorted sets too, of which
	// each takes ten times the memory. Default 2,000.
	SortedSets int
	// InFlight is how many posts are handled at once. Default 256.
	InFlight int
}

func (c FanoutConfig) withDefaults() FanoutConfig {
	c.Users = cmp.Or(c.Users, 20_000)
	c.Posts = cmp.Or(c.Posts, 45_000)
	c.Audience = cmp.Or(c.Audience, 150)
	c.Entries = cmp.Or(c.Entries, 800)
	c.Rounds = cmp.Or(c.Rounds, 3)
	c.SortedSets = min(cmp.Or(c.SortedSets, 2_000), c.Users)
	c.InFlight = cmp.Or(c.InFlight, 256)
	return c
}

// Fanout measures the feed's fan-out, from the log to the lists: the real
// subscriber, router, handler and store. Beside it, in turns on the same Redis,
// run redis-benchmark with bare LPUSHX over the same lists, which is the ceiling,
// and a pipeline of ZADD a post, as DeathStarBench pushes. It writes a table to w.
//
// The graph is a power law, authors are drawn by their number of followers, and
// all lists are warm and full, so that every push counts and trims are part of it.
func Fanout(ctx context.Context, w io.Writer, cfg FanoutConfig, log *slog.Logger) (Result, error) {
	cfg = cfg.withDefaults()
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return Result{}, errors.New("bench fanout: redis-benchmark is not on PATH: it is the ceiling; install the redis tools")
	}
	// MaxRetries and ContextTimeoutEnabled as the server sets them.
	client := redis.NewClient(&redis.Options{Addr: cfg.RedisAddr, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	if err := checkEmpty(ctx, cfg, client); err != nil {
		return Result{}, fmt.Errorf("bench fanout: %w", err)
	}
	f := &fanout{cfg: cfg, redis: client, log: log, graph: newPowerLaw(cfg.Users, cfg.Audience)}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"keep the graph", f.keepGraph},
		{"fill the lists", f.fillLists},
		{"fill the sorted sets", f.fillSortedSets},
	}
	for _, step := range steps {
		log.Info("bench fanout: " + step.name)
		if err := step.run(ctx); err != nil {
			return Result{}, fmt.Errorf("bench fanout: %s: %w", step.name, err)
		}
	}
	for round := range cfg.Rounds {
		log.Info("bench fanout: measure", "round", round+1, "of", cfg.Rounds)
		if err := f.round(ctx); err != nil {
			return Result{}, fmt.Errorf("bench fanout: round %d: %w", round+1, err)
		}
	}
	return f.report(w), nil
}

// checkEmpty refuses to write into engines that somebody uses.
func checkEmpty(ctx context.Context, cfg FanoutConfig, client *redis.Client) error {
	n, err := client.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask redis %s: %w", cfg.RedisAddr, err)
	}
	if n > 0 {
		return fmt.Errorf("redis %s holds %d keys: give an empty one", cfg.RedisAddr, n)
	}
	admin, err := kafka.NewAdmin(cfg.Brokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{event.Topic: {Partitions: 8}}); err != nil {
		return err
	}
	ends, err := admin.EndOffsets(ctx, event.Topic)
	if err != nil {
		return err
	}
	for _, end := range ends {
		if end > 0 {
			return fmt.Errorf("topic %s has records: give an empty log", event.Topic)
		}
	}
	return nil
}

// measured is what the rounds gave for one way to push.
type measured struct {
	// rates are deliveries a second.
	rates []float64
	// micros are what a delivery cost Redis, in microseconds of computing.
	micros []float64
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func (f *fanout) report(w io.Writer) Result {
	ceiling, ours := median(f.ceiling.rates), median(f.ours.rates)
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetTitle(fmt.Sprintf("fan-out: %s users, %s follows, %s posts to %d feeds each, medians of %d rounds",
		longrun.Count(int64(f.cfg.Users)), longrun.Count(int64(f.graph.follows)), longrun.Count(int64(f.posts)),
		f.deliveries/f.posts, f.cfg.Rounds))
	t.AppendHeader(table.Row{"", "deliveries/s", "of the ceiling", "Redis µs each", "bytes an entry"})
	columns := []table.ColumnConfig{}
	for n := 2; n <= 5; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	row := func(what string, m measured, bytes float64) {
		rate := median(m.rates)
		t.AppendRow(table.Row{
			what, longrun.Count(int64(rate)), fmt.Sprintf("%.2f", rate/ceiling),
			fmt.Sprintf("%.2f", median(m.micros)), fmt.Sprintf("%.1f", bytes),
		})
	}
	row("redis-benchmark LPUSHX -P 500 -c 4 (the ceiling)", f.ceiling, f.listBytes)
	row("activityfeed, log to lists", f.ours, f.listBytes)
	row("ZADD a follower, a pipeline a post", f.zadd, f.zsetBytes)
	t.Render()
	fmt.Fprintf(w, "against ZADD: %.1f times the deliveries\n", ours/median(f.zadd.rates))
	return Result{Name: "fanout", Ratio: ours / ceiling, Target: FanoutTarget}
}

// userName is a user's id in the form of redis-benchmark's __rand_int__.
func userName(n int) string { return fmt.Sprintf("%012d", n) }

// idSource makes ids of this moment.
func idSource() (*event.IDs, error) { return event.NewIDs(1023, time.Now) }
