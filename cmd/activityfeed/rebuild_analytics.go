package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"activityfeed/analytics"
	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load/longrun"
	"activityfeed/internal/rebuild"
)

// runTables makes the tables of ClickHouse anew and prints what was written.
func (c *rebuildCmd) runTables(ctx context.Context, e endpoints, con *console) (err error) {
	cfg, err := c.ClickHouse.writer(e, c.Target.DataDir, c.Analytics)
	if err != nil {
		return err
	}
	topics, err := kafka.NewScanner(e.Kafka, con.log)
	if err != nil {
		return err
	}
	defer topics.Close()
	tables, err := analytics.OpenTables(cfg, con.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tables.Close()) }()
	ctx, release, err := tables.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	t := table.NewWriter()
	t.AppendHeader(table.Row{"table", "records in the log", "unknown type", "unreadable", "not in the log", "elapsed"})
	defer func() {
		if t.Length() > 0 {
			con.printTable(t)
		}
	}()
	for _, topic := range []string{event.Topic, delivery.Topic} {
		result, name, err := c.refill(ctx, tables, topics, topic, con)
		if err != nil {
			return err
		}
		rest := longrun.Count(result.Rest.Rows)
		if result.Rest.Rows > 0 {
			rest += map[rebuild.NotInLog]string{rebuild.Keep: ", kept", rebuild.Drop: ", dropped"}[c.NotInLog]
		}
		t.AppendRow(table.Row{
			name, longrun.Count(result.Records), longrun.Count(result.Unknown), longrun.Count(result.Bad), rest,
			result.Elapsed.Round(10 * time.Millisecond).String(),
		})
	}
	right := make([]table.ColumnConfig, 0, 5)
	for n := range 5 {
		right = append(right, table.ColumnConfig{Number: n + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	return nil
}

// refill makes the table of a topic anew.
func (c *rebuildCmd) refill(ctx context.Context, tables *analytics.Tables, topics rebuild.Topics, topic string, con *console) (rebuild.RefillResult, string, error) {
	refill := tables.Refill(topic)
	cfg := c.Rebuild
	cfg.Terminal = con.progressIsLive()
	result, err := rebuild.Refill(ctx, cfg, rebuild.RefillDeps{
		Log: con.log, Name: refill.Table(), Topics: topics, Topic: topic, Table: refill, NotInLog: c.NotInLog,
	}, con.err)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return result, refill.Table(), err
}
