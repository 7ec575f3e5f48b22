package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
	JSON   bool         `name:"json" help:"Print the report as JSON instead of tables."`
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
var errDrift = errors.New("the audit found differences")

// Help stands in the command's --help.
func (c *auditCmd) Help() string {
	return `
The exit code is 0 where nothing differs, 1 where the audit could not be done, and 2 where something differs.

What may differ:

  missing     the log says that the post belongs in the feed, and it is not there
  extra       the feed has a post that does not belong there
  duplicate   the feed has a post twice
  misordered  the post stands after an older one
  altered     author or content of the post are not what the log has
  paging      a page breaks the contract of the API, such as a short page before the last
  unreadable  the API refuses to serve the feed
  healed      wrong at the first read and right at the second, though nothing was accepted meanwhile
  reposted    one idempotency key of one author has two posts in the log: a retry was posted again

--repair mends feeds, 'activityfeed rebuild --analytics' mends counts.`
}

// verdict says in one line what differs and what to do about it; nil where nothing does.
func (c *auditCmd) verdict(report audit.Report) error {
	if report.Clean() {
		return nil
	}
	var feeds int64
	for kind, n := range report.Differences {
		if kind != audit.Healed && kind != audit.Reposted {
			feeds += n
		}
	}
	var advice []string
	switch {
	case report.Repair != nil && len(report.Repair.Left) > 0:
		advice = append(advice, fmt.Sprintf("feeds still differ after the repair: 'activityfeed rebuild --data-dir %s' makes all of them anew", c.Target.DataDir))
	case report.Repair == nil && feeds > 0:
		advice = append(advice, "feeds differ from the log: run this audit again with --repair, which makes them anew")
	case report.Repair == nil && report.Differences[audit.Healed] > 0:
		advice = append(advice, "feeds were wrong for a moment and are right now (healed): run the audit again to see whether more are")
	}
	if report.Differences[audit.Reposted] > 0 {
		advice = append(advice, "posts stand in the log twice (reposted): their authors may delete one; --drift FILE names all")
	}
	if !report.CountsAgree() {
		advice = append(advice, fmt.Sprintf("counts differ from the log: 'activityfeed rebuild --analytics --data-dir %s' makes the tables anew", c.Target.DataDir))
	}
	return fmt.Errorf("%w: %s", errDrift, strings.Join(advice, "; "))
}

// Run prints the report; differences are an error.
func (c *auditCmd) Run(ctx context.Context, con *console) (err error) {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	security, err := c.Target.security(e)
	if err != nil {
		return err
	}
	admin, err := kafka.NewAdmin(e.Kafka)
	if err != nil {
		return err
	}
	defer admin.Close()
	conn, err := dial(e.API, security)
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
			_, _, err := rebuildFeeds(ctx, cfg, c.Feed, e.Kafka, client, history, newAskedUsers(users), con)
			return err
		}
	}
	if c.Every > 0 {
		return c.watch(ctx, cfg, deps, con)
	}
	report, err := audit.Run(ctx, cfg, deps, con.err)
	if err != nil && !errors.Is(err, audit.ErrExport) {
		return c.Target.explain(err)
	}
	return errors.Join(err, c.print(report, con.out), c.verdict(report))
}

// print writes the report for people, or for programs.
func (c *auditCmd) print(report audit.Report, out io.Writer) error {
	if !c.JSON {
		return report.Write(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
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
