package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/redis/go-redis/v9"

	"activityfeed/analytics"
	"activityfeed/feed"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load/longrun"
	"activityfeed/internal/rebuild"
	"activityfeed/notify"
)

// redisFlags say how a tool reaches the Redis of a running server.
type redisFlags struct {
	Redis         []string `help:"Redis address, if not the data folder's; several are a Redis Cluster." placeholder:"HOST:PORT"`
	RedisUsername string   `help:"Redis user."`
	RedisPassword string   `help:"Redis password. Better given as ACTIVITYFEED_REDIS_PASSWORD."`
}

// open connects to the Redis of the flags, else to that of the server.
func (f redisFlags) open(e endpoints) (redis.UniversalClient, error) {
	addrs := f.Redis
	if len(addrs) == 0 {
		addrs = e.Redis
	}
	if len(addrs) == 0 {
		return nil, errors.New("no Redis: give --redis, or the --data-dir of a server that has one")
	}
	return dialRedis(addrs, f.RedisUsername, f.RedisPassword), nil
}

// rebuildCmd makes the feeds and inboxes in Redis, or the tables of ClickHouse, anew
// from the log, while the server serves.
type rebuildCmd struct {
	Target     target           `embed:""`
	Redis      redisFlags       `embed:""`
	ClickHouse clickhouseFlags  `embed:""`
	From       source           `default:"log" enum:"log,clickhouse" help:"Where the feeds come from: the log, or ClickHouse and then the log, when the log has forgotten its beginning. Inboxes come from the log."`
	Users      []string         `help:"Only what concerns these users; default: everything." placeholder:"ID"`
	Tables     bool             `name:"analytics" help:"Make the tables of ClickHouse anew instead of the feeds."`
	NotInLog   rebuild.NotInLog `default:"refuse" enum:"refuse,keep,drop" help:"With --analytics: what becomes of rows that the log has no more: refuse to go on, keep them, or drop them."`
	Rebuild    rebuild.Config   `embed:""`
	Feed       feed.Config      `embed:"" prefix:"feed-" group:"Feed, as the server has it"`
	Notify     notify.Config    `embed:"" prefix:"notify-" group:"Notifications, as the server has them"`
	Analytics  analytics.Config `embed:"" prefix:"analytics-" group:"Analytics, as the server has it"`
}

// Validate refuses what would be left undone in silence.
func (c *rebuildCmd) Validate() error {
	var faults []error
	if c.Tables && (len(c.Users) > 0 || c.From != fromLog) {
		faults = append(faults, errors.New("--users and --from are about feeds: --analytics makes whole tables anew, from the log"))
	}
	if !c.Tables && c.NotInLog != rebuild.Refuse {
		faults = append(faults, errors.New("--not-in-log is about tables: give it with --analytics"))
	}
	for _, user := range c.Users {
		if !event.IsUserID(user) {
			faults = append(faults, fmt.Errorf("--users: %q is not a user id: 1 to 64 characters of A-Z a-z 0-9 _ . : -", user))
		}
	}
	return errors.Join(faults...)
}

// Run prints what was written.
func (c *rebuildCmd) Run(ctx context.Context, con *console) (err error) {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	if c.Tables {
		return c.runTables(ctx, e, con)
	}
	client, err := c.Redis.open(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	presence := watchRedis(ctx, client)
	defer presence.stop()
	cfg := c.Rebuild
	cfg.Terminal, cfg.Waiting = con.progressIsLive(), presence.waiting
	history, err := c.From.open(ctx, c.ClickHouse, e, c.Target.DataDir, c.Analytics)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, history.close()) }()
	admin, err := kafka.NewAdmin(e.Kafka)
	if err != nil {
		return err
	}
	defer admin.Close()
	projections := &projections{log: con.log, redis: client, admin: admin}
	for _, service := range []string{roleFeed, roleNotify} {
		if _, err := projections.verify(ctx, service); err != nil {
			return err
		}
	}
	asked := newAskedUsers(c.Users)
	result, counts, err := rebuildFeeds(ctx, cfg, c.Feed, e.Kafka, client, history, asked, con)
	if err != nil {
		return err
	}
	told, inboxes, err := rebuildInboxes(ctx, cfg, c.Notify, e.Kafka, client, asked, con)
	if err != nil {
		return err
	}
	if len(c.Users) == 0 {
		// All that the log has is there: the next start need not read it again.
		for _, service := range []string{roleFeed, roleNotify} {
			if err := projections.mark(ctx, service); err != nil {
				return err
			}
		}
	}
	t := table.NewWriter()
	t.AppendHeader(table.Row{"rebuild", "count"})
	posts := "posts"
	if history.stored != nil {
		posts = "posts; twice those that the log has too"
		t.AppendRow(table.Row{"events in ClickHouse", longrun.Count(result.Stored)})
		t.AppendRow(table.Row{"posts stored without content: not from here", longrun.Count(result.Lost)})
	}
	for _, row := range []struct {
		name string
		n    int64
	}{
		{"records in the log", result.Records},
		{"follows, blocks and mutes", counts.Edges},
		{"ended follows, blocks and mutes", counts.Ended},
		{posts, counts.Posts},
		{"deleted posts", counts.Deletes},
		{"read positions", counts.Positions},
		{"feeds built again", counts.Feeds},
		{"devices, preferences and marks", inboxes.Settings},
		{"missing rows of inboxes", inboxes.Rows},
		{"records of unknown type", result.Unknown},
		{"unreadable records", result.Bad},
	} {
		t.AppendRow(table.Row{row.name, longrun.Count(row.n)})
	}
	t.AppendFooter(table.Row{"elapsed", (result.Elapsed + told.Elapsed).Round(10 * time.Millisecond).String()})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight}})
	con.printTable(t)
	return asked.unknown()
}

// rebuildFeeds makes anew what the feed keeps of the users, or of all.
func rebuildFeeds(ctx context.Context, cfg rebuild.Config, feedCfg feed.Config, brokers []string, client redis.UniversalClient, history history, asked *askedUsers, con *console) (rebuild.Result, feed.RestoreCounts, error) {
	var none feed.RestoreCounts
	topics, err := kafka.NewScanner(brokers, con.log)
	if err != nil {
		return rebuild.Result{}, none, err
	}
	defer topics.Close()
	feeds, err := feed.New(feedCfg, feed.Deps{Log: con.log, Redis: client})
	if err != nil {
		return rebuild.Result{}, none, err
	}
	restore := feeds.Restore(asked.users, rebuild.NewPace(cfg.Rate).Wait)
	deps := rebuild.Deps{Log: con.log, Topics: topics, Projection: askedFeeds{restore, asked}}
	if history.stored != nil {
		deps.History = history.stored
	}
	result, err := rebuild.Run(ctx, cfg, deps, con.err)
	return result, restore.Counts(), errors.Join(err, feeds.Close())
}
