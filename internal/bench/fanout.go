package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"

	"github.com/jedib0t/go-pretty/v6/table"

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
	// Rounds is how often everything is measured; medians count. Default 5.
	Rounds int
	// InFlight is how many posts are handled at once. Default 512.
	InFlight int
}

func (c FanoutConfig) withDefaults() FanoutConfig {
	c.Users = cmp.Or(c.Users, 20_000)
	c.Posts = cmp.Or(c.Posts, 45_000)
	c.Audience = cmp.Or(c.Audience, 150)
	c.Entries = cmp.Or(c.Entries, 800)
	c.Rounds = cmp.Or(c.Rounds, 5)
	c.InFlight = cmp.Or(c.InFlight, 512)
	return c
}

// Fanout measures the feed's fan-out, from the log to the lists: the real
// subscriber, router, handler and store. Beside it, in turns on the same Redis,
// run redis-benchmark with bare LPUSHX over the same lists, which is the ceiling,
// and a pipeline of ZADD a post, as DeathStarBench pushes, into as many sorted sets. It writes a table to w.
//
// The graph is a power law, authors are drawn by their number of followers, and
// all lists are warm and full, so that every push counts and trims are part of it.
func Fanout(ctx context.Context, w io.Writer, cfg FanoutConfig, log *slog.Logger) (Result, error) {
	cfg = cfg.withDefaults()
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return Result{}, errors.New("bench fanout: redis-benchmark is not on PATH: it is the ceiling; install the redis tools")
	}
	client := newRedis(cfg.RedisAddr)
	defer func() { _ = client.Close() }()
	if err := checkEmpty(ctx, cfg.Brokers, client); err != nil {
		return Result{}, fmt.Errorf("bench fanout: %w", err)
	}
	f := &fanout{cfg: cfg, redis: client, log: log, people: &population{
		redis: client, users: cfg.Users, entries: cfg.Entries, graph: newPowerLaw(cfg.Users, cfg.Audience),
	}}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"fill the feeds", f.people.fill},
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

// measured is what the rounds gave for one way to push.
type measured struct {
	// rates are deliveries a second.
	rates []float64
	// micros are what a delivery cost Redis, in microseconds of computing.
	micros []float64
}

func (f *fanout) report(w io.Writer) Result {
	t := newTable(w, fmt.Sprintf("fan-out: %s users, %s follows, %s posts to %d feeds each, medians of %d rounds",
		longrun.Count(int64(f.cfg.Users)), longrun.Count(int64(f.people.graph.follows)), longrun.Count(int64(f.posts)),
		f.deliveries/f.posts, f.cfg.Rounds),
		"", "deliveries/s", "of the ceiling", "Redis µs each", "bytes an entry")
	row := func(what string, m measured, bytes float64) {
		t.AppendRow(table.Row{
			what, longrun.Count(int64(median(m.rates))), fmt.Sprintf("%.2f", medianRatio(m.rates, f.ceiling.rates)),
			fmt.Sprintf("%.2f", median(m.micros)), fmt.Sprintf("%.1f", bytes),
		})
	}
	row("redis-benchmark LPUSHX -P 500 -c 4 (the ceiling)", f.ceiling, f.people.listBytes)
	row("activityfeed, log to lists", f.ours, f.people.listBytes)
	row("ZADD a follower, a pipeline a post", f.zadd, f.zsetBytes)
	t.Render()
	fmt.Fprintf(w, "against ZADD: %.1f times the deliveries\n", medianRatio(f.ours.rates, f.zadd.rates))
	return Result{Name: "fanout", Ratio: medianRatio(f.ours.rates, f.ceiling.rates), Target: FanoutTarget}
}
