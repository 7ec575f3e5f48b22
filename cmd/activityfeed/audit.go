package main

import (
	"context"
	"errors"
	"os"

	"activityfeed/analytics"
	"activityfeed/internal/audit"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	pb "activityfeed/proto/activityfeed/v1"
)

// auditCmd compares what is served and stored with what the log says.
type auditCmd struct {
	Target target       `embed:""`
	Drift  string       `help:"Write every difference to this file, a line of JSON each." placeholder:"FILE" type:"path"`
	Audit  audit.Config `embed:""`
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
	if len(e.ClickHouse.Addr) > 0 {
		reader, err := analytics.OpenReader(analyticsConfig(e))
		if err != nil {
			return err
		}
		defer reader.Close()
		deps.Stored = reader.CountByType
	}
	if c.Drift != "" {
		file, err := os.Create(c.Drift)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		deps.Drift = file
	}
	report, err := audit.Run(ctx, cfg, deps, con.err)
	if err != nil {
		return err
	}
	if !report.Clean() {
		return errDrift
	}
	return nil
}
