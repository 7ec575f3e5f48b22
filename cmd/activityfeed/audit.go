package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/analytics"
	"activityfeed/feed"
	"activityfeed/internal/app"
	"activityfeed/internal/audit"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rebuild"
	pb "activityfeed/proto/activityfeed/v1"
)

// auditCmd compares what is served and stored with what the log says.
type auditCmd struct {
	Target target       `embed:""`
	Drift  string       `help:"Write every difference to this file, a line of JSON each." placeholder:"FILE" type:"path"`
	JSON   bool         `name:"json" help:"Print the report as JSON to standard output."`
	From   source       `default:"log" enum:"log,clickhouse" help:"What the feeds are compared with: the log, or ClickHouse and then the log, when the log has forgotten its beginning."`
	Audit  audit.Config `embed:""`

	Repair     bool            `help:"Make anew, from the log, what the feeds that differ are made of."`
	Rate       int             `default:"20000" help:"Commands a second of a repair to Redis at most; 0 for no limit."`
	Redis      redisFlags      `embed:""`
	ClickHouse clickhouseFlags `embed:""`
	Feed       feed.Config     `embed:"" prefix:"feed-" group:"Feed, as the server has it, for a repair"`

	Every time.Duration `help:"Stay, and audit again after this time; the log is read once. 0: audit once." default:"0s"`
	Ops   string        `help:"With --every: address of /metrics, where activityfeed_feed_drift is the last audit's drift." default:"127.0.0.1:9092"`
}

// errDrift makes the command fail when something differs.
var errDrift = errors.New("feeds or counts differ from the log: see the report")

// Run prints the report; differences are an error.
func (c *auditCmd) Run(ctx context.Context, con *console) (err error) {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	admin, err := kafka.NewAdmin(e.Kafka)
	if err != nil {
		return err
	}
	defer admin.Close()
	conn, err := dial(e.API)
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := c.Audit
	cfg.Terminal = con.progressIsLive()
	deps := audit.Deps{
		Log:  con.log,
		Tail: kafka.NewTail(kafka.TailConfig{Brokers: e.Kafka, Topic: event.Topic}, con.log),
		Lag:  admin,
		Feed: pb.NewFeedServiceClient(conn),
	}
	if cfg, err := c.ClickHouse.reader(e, analytics.Config{}); err == nil { // else there is none
		reader, err := analytics.OpenReader(cfg)
		if err != nil {
			return err
		}
		defer reader.Close()
		deps.Stored = reader.CountByType
	}
	history, err := c.From.open(ctx, c.ClickHouse, e, c.Target.DataDir, analytics.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, history.close()) }()
	if history.stored != nil {
		deps.History = history.all
	}
	if c.Drift != "" {
		file, err := os.Create(c.Drift)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		deps.Drift = file
	}
	if c.Repair {
		client, openErr := c.Redis.open(e)
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		deps.Repair = func(ctx context.Context, users []string) error {
			cfg := rebuild.Config{Rate: c.Rate, Terminal: cfg.Terminal, ProgressInterval: cfg.ProgressInterval}
			_, _, err := rebuildFeeds(ctx, cfg, c.Feed, e.Kafka, client, history, users, con)
			return err
		}
	}
	if c.Every > 0 {
		return c.watch(ctx, cfg, deps, con)
	}
	report, err := audit.Run(ctx, cfg, deps, con.err)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(con.out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return err
		}
	}
	if !report.Clean() {
		return errDrift
	}
	return nil
}

// watch audits until the process is told to stop. It is a process of its own because
// it keeps who follows whom in memory, about 40 bytes a follow, and reads the feeds
// as clients do.
func (c *auditCmd) watch(ctx context.Context, cfg audit.Config, deps audit.Deps, con *console) error {
	registry := prometheus.NewRegistry()
	metrics := audit.NewMetrics(registry)
	ops, err := app.NewOps(c.Ops, registry, func(context.Context) error { return nil }, con.log)
	if err != nil {
		return err
	}
	con.log.Info("auditor is up", "every", c.Every, "metrics", "http://"+ops.Addr()+"/metrics")
	return app.RunStages(ctx, con.log,
		[]app.Part{{Name: "auditor", Run: func(ctx context.Context) error { return audit.Watch(ctx, cfg, deps, c.Every, metrics) }}},
		[]app.Part{{Name: "operator's port", Run: ops.Run}})
}
