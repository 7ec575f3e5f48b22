package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/exec"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/load/longrun"
)

// ScaleTarget is how many times as much a delivery may cost in the large
// population, see the targets in ARCHITECTURE.md.
const ScaleTarget = 1.2

// ScaleConfig says what [Scale] measures and where.
type ScaleConfig struct {
	// Brokers are those of an empty log. Required.
	Brokers []string
	// SmallAddr and LargeAddr are two empty Redis, host:port. Required.
	SmallAddr, LargeAddr string
	// Small and Large are how many users each has. Default 10,000 and 1,000,000,
	// whose feeds take 9 GB.
	Small, Large int
	// Audience is how many followers a post has on average, in both. Default 150.
	Audience int
	// Entries is how many posts each feed holds. Default 800.
	Entries int
	// Posts is how many are pushed in each, in all rounds together. Default 30,000.
	Posts int
	// Rounds is how often both are measured, in turns; medians count. Default 3.
	Rounds int
}

func (c ScaleConfig) withDefaults() ScaleConfig {
	c.Small = cmp.Or(c.Small, 10_000)
	c.Large = cmp.Or(c.Large, 1_000_000)
	c.Audience = cmp.Or(c.Audience, 150)
	c.Entries = cmp.Or(c.Entries, 800)
	c.Posts = cmp.Or(c.Posts, 30_000)
	c.Rounds = cmp.Or(c.Rounds, 3)
	return c
}

// Scale measures what a delivery costs in a small and in a large population, each
// in a Redis of its own. Posts have as many followers in both. It writes a table to
// w. Where redis-benchmark is installed, it measures a bare LPUSHX into the same lists
// as well: that much of the difference is Redis's own, whose memory outgrows the
// processor's caches.
func Scale(ctx context.Context, w io.Writer, cfg ScaleConfig, log *slog.Logger) (Result, error) {
	cfg = cfg.withDefaults()
	type side struct {
		people *population
		micros []float64
		bare   []float64 // of LPUSHX alone; empty without redis-benchmark
	}
	_, missing := exec.LookPath("redis-benchmark")
	var sides []*side
	for _, s := range []struct {
		addr  string
		users int
	}{{cfg.SmallAddr, cfg.Small}, {cfg.LargeAddr, cfg.Large}} {
		client := newRedis(s.addr)
		defer func(client *redis.Client) { _ = client.Close() }(client)
		if err := checkEmpty(ctx, cfg.Brokers, client); err != nil {
			return Result{}, fmt.Errorf("bench scale: %w", err)
		}
		log.Info("bench scale: fill the feeds", "users", s.users)
		people := &population{redis: client, users: s.users, entries: cfg.Entries, graph: newPowerLaw(s.users, cfg.Audience)}
		if err := people.fill(ctx); err != nil {
			return Result{}, fmt.Errorf("bench scale: %d users: %w", s.users, err)
		}
		sides = append(sides, &side{people: people})
	}
	for round := range cfg.Rounds {
		log.Info("bench scale: measure", "round", round+1, "of", cfg.Rounds)
		for _, s := range sides {
			posts, err := s.people.drawPosts(cfg.Posts / cfg.Rounds)
			if err != nil {
				return Result{}, err
			}
			p, err := s.people.push(ctx, cfg.Brokers, 256, posts, log)
			if err != nil {
				return Result{}, fmt.Errorf("bench scale: %d users: %w", s.people.users, err)
			}
			if err := s.people.trim(ctx); err != nil {
				return Result{}, fmt.Errorf("bench scale: trim: %w", err)
			}
			s.micros = append(s.micros, 1e6/p.rate)
			if missing != nil {
				continue
			}
			rate, err := s.people.ceiling(ctx, p.deliveries, posts[0].GetPhoto().GetPostId())
			if err != nil {
				return Result{}, fmt.Errorf("bench scale: %w", err)
			}
			if err := s.people.trim(ctx); err != nil {
				return Result{}, fmt.Errorf("bench scale: trim: %w", err)
			}
			s.bare = append(s.bare, 1e6/rate)
		}
	}
	var rows []row
	for _, s := range sides {
		rows = append(rows, row{
			longrun.Count(int64(s.people.users)) + " users", 1e6 / median(s.micros),
			fmt.Sprintf("%.2f µs a delivery, %.1f bytes an entry", median(s.micros), s.people.listBytes),
		})
		if missing == nil {
			rows = append(rows, row{
				"  redis-benchmark LPUSHX, the same lists", 1e6 / median(s.bare),
				fmt.Sprintf("%.2f µs", median(s.bare)),
			})
		}
	}
	writeTable(w, fmt.Sprintf("fan-out to about %d followers a post, feeds of %d, medians of %d rounds", cfg.Audience, cfg.Entries, cfg.Rounds),
		"deliveries/s", rows)
	if missing == nil {
		fmt.Fprintf(w, "a bare LPUSHX costs %.2f times as much in the large population\n", medianRatio(sides[1].bare, sides[0].bare))
	}
	return Result{Name: "scale", Ratio: medianRatio(sides[1].micros, sides[0].micros), Target: ScaleTarget}, nil
}
