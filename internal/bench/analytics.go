package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/analytics"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// AnalyticsTarget is the share of the driver's rows a second that the sink must
	// reach, from the log to the table.
	AnalyticsTarget = 0.7

	analyticsRounds     = 3
	analyticsPartitions = 8
	// analyticsBatch is the sink's and the driver's batch: what `serve` inserts at most.
	analyticsBatch = 50_000
	// analyticsWriters is how many connections the driver uses; more were no faster on 2 cores.
	analyticsWriters = 4
)

// AnalyticsConfig says what [Analytics] measures, and on which engines.
type AnalyticsConfig struct {
	Brokers []string
	// ClickHouse is where the tables go, into databases of the benchmark's own. Its
	// Database is not looked at.
	ClickHouse analytics.Config
	// Rows is how many events are measured. The log has a quarter more, so that the
	// last batches need not wait to fill.
	Rows int
}

// Analytics measures how many events a second go from the log into the table:
// read, decoded, held to the rules, inserted with a token, committed; beside the
// same rows by clickhouse-go batches alone, from memory, in turns. It writes a
// table to w.
func Analytics(ctx context.Context, w io.Writer, cfg AnalyticsConfig, log *slog.Logger) (Result, error) {
	b := &analyticsBench{cfg: cfg, log: log}
	var err error
	if b.conn, err = analytics.Connect(cfg.ClickHouse); err != nil {
		return Result{}, err
	}
	defer func() { _ = b.conn.Close() }()
	if b.publisher, err = kafka.NewPublisher(kafka.PublisherConfig{Brokers: cfg.Brokers}, log); err != nil {
		return Result{}, err
	}
	defer b.publisher.Close()
	log.Info("bench analytics: fill the log", "events", cfg.Rows)
	if err := b.fill(ctx); err != nil {
		return Result{}, fmt.Errorf("bench analytics: fill the log: %w", err)
	}
	var ours, rowwise, columnwise []float64
	for round := range analyticsRounds {
		log.Info("bench analytics: measure", "round", round+1, "of", analyticsRounds)
		rate, err := b.sink(ctx, round)
		if err != nil {
			return Result{}, fmt.Errorf("bench analytics: ours: %w", err)
		}
		ours = append(ours, rate)
		if b.rows, err = b.readBack(ctx); err != nil {
			return Result{}, fmt.Errorf("bench analytics: read the rows back: %w", err)
		}
		if rate, err = b.driver(ctx, round, (*analyticsRows).byRow); err != nil {
			return Result{}, fmt.Errorf("bench analytics: clickhouse-go: %w", err)
		}
		rowwise = append(rowwise, rate)
		if rate, err = b.driver(ctx, round, (*analyticsRows).byColumn); err != nil {
			return Result{}, fmt.Errorf("bench analytics: clickhouse-go: %w", err)
		}
		columnwise = append(columnwise, rate)
		b.rows = nil // millions of strings, which the collector would go through in our turn
	}
	// The faster of the driver's two ways is the ceiling.
	best := rowwise
	if median(columnwise) > median(rowwise) {
		best = columnwise
	}
	writeTable(w, fmt.Sprintf("%d events, batches of %d, medians of %d rounds", cfg.Rows, analyticsBatch, analyticsRounds),
		"rows/s", []row{
			{"activityfeed", median(ours), fmt.Sprintf("from %d partitions of the log: decoded, checked, once a token", analyticsPartitions)},
			{"clickhouse-go, row by row", median(rowwise), fmt.Sprintf("the same rows from memory, %d connections", analyticsWriters)},
			{"clickhouse-go, by columns", median(columnwise), "the same"},
		})
	return Result{Name: "analytics", Ratio: medianRatio(ours, best), Target: AnalyticsTarget}, nil
}

type analyticsBench struct {
	cfg       AnalyticsConfig
	log       *slog.Logger
	conn      driver.Conn
	publisher *kafka.Publisher
	rows      []*analyticsRows
}

// fill puts the events on the log: a third posts, two thirds follows.
func (b *analyticsBench) fill(ctx context.Context) error {
	admin, err := kafka.NewAdmin(b.cfg.Brokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{
		event.Topic:                          {Partitions: analyticsPartitions},
		event.PoisonTopic(analytics.Service): {Partitions: 1},
		event.RetryTopic(analytics.Service):  {Partitions: 1},
	}); err != nil {
		return err
	}
	start := time.Now().Add(-time.Hour)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	const part = 2000
	total := b.cfg.Rows + b.cfg.Rows/4
	for first := 0; first < total; first += part {
		group.Go(func() error {
			messages := make([]*message.Message, 0, part)
			for n := first; n < min(first+part, total); n++ {
				// A thousand events a second of the past.
				at := start.Add(time.Duration(n) * time.Millisecond)
				msg, err := event.Encode(event.Event{ID: event.FirstID(at) + 1, Time: at, Source: "//bench/activityfeed/0", Data: analyticsFact(n, at)})
				if err != nil {
					return err
				}
				messages = append(messages, msg)
			}
			return b.publisher.PublishContext(ctx, event.Topic, messages...)
		})
	}
	return group.Wait()
}

func analyticsFact(n int, at time.Time) proto.Message {
	user, other := "user"+strconv.Itoa(n*7919%50_000), "user"+strconv.Itoa(n*104_729%50_000)
	if n%3 != 0 {
		return &pb.UserFollowed{FollowerId: user, FolloweeId: other}
	}
	return &pb.PhotoPosted{Photo: &pb.Photo{
		PostId: event.FirstID(at).String(), AuthorId: user, Caption: "Abendlicht über der Düne", Mentions: []string{other},
		Media:      []*pb.Media{{Url: "https://cdn.example.org/photos/" + strconv.Itoa(n) + ".jpg", Width: 1080, Height: 1350}},
		CreateTime: timestamppb.New(at),
	}}
}

// sink runs analytics on a database of its own until all rows are there.
func (b *analyticsBench) sink(ctx context.Context, round int) (rate float64, err error) {
	cfg := b.cfg.ClickHouse
	cfg.Database = "bench_ours_" + strconv.Itoa(round)
	group := cfg.Database
	batches, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: b.cfg.Brokers, Group: group,
		Batch: &kafka.BatchConfig{MaxRecords: analyticsBatch, MaxBytes: 16 << 20, MaxWait: time.Second},
	}, b.log, nil)
	if err != nil {
		return 0, err
	}
	singles, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: b.cfg.Brokers, Group: group + ".retry"}, b.log, nil)
	if err != nil {
		return 0, err
	}
	registry := prometheus.NewRegistry()
	sink, err := analytics.New(cfg, analytics.Deps{Log: b.log, Subscriber: batches, RetrySubscriber: singles, Publisher: b.publisher, Metrics: registry})
	if err != nil {
		return 0, err
	}
	// The tables are made before the clock starts.
	if err := errors.Join(sink.Prepare(ctx), b.rest(ctx)); err != nil {
		return 0, err
	}
	runtime.GC() // each measurement begins without the garbage of the one before
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- sink.Run(running) }()
	n, err := b.wait(ctx, registry)
	took := time.Since(start)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return 0, err
	}
	if there, err := b.count(ctx, cfg.Database); err != nil || there < n {
		return 0, fmt.Errorf("%d of %d rows are in the table (%w)", there, n, err)
	}
	return float64(n) / took.Seconds(), nil
}

// rest returns when ClickHouse has merged what was inserted before: each measurement
// finds it idle.
func (b *analyticsBench) rest(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for idle := 0; idle < 5; {
		var merges uint64
		if err := b.conn.QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&merges); err != nil {
			return err
		}
		if idle++; merges > 0 {
			idle = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// wait returns when the sink has enough rows in the table, and how many they are by
// then. It asks the sink: to ask ClickHouse often is work for ClickHouse.
func (b *analyticsBench) wait(ctx context.Context, registry *prometheus.Registry) (uint64, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := insertedRows(registry)
		switch {
		case err != nil:
			return 0, err
		case n >= uint64(b.cfg.Rows):
			return n, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d rows: %w", n, b.cfg.Rows, ctx.Err())
		case <-tick.C:
		}
	}
}

// insertedRows is the sink's own count.
func insertedRows(registry *prometheus.Registry) (uint64, error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "activityfeed_analytics_rows_total" {
			return uint64(f.GetMetric()[0].GetCounter().GetValue()), nil
		}
	}
	return 0, errors.New("the sink has no metric of its rows")
}

func (b *analyticsBench) count(ctx context.Context, database string) (n uint64, err error) {
	err = b.conn.QueryRow(ctx, "SELECT count() FROM "+database+".events").Scan(&n)
	return n, err
}

// driver inserts the same rows into a table of the same kind, and nothing else.
func (b *analyticsBench) driver(ctx context.Context, round int, fill func(*analyticsRows, driver.Batch) error) (rate float64, err error) {
	database := "bench_driver"
	for _, statement := range []string{
		"DROP DATABASE IF EXISTS " + database + " SYNC",
		"CREATE DATABASE " + database,
		"CREATE TABLE " + database + ".events AS bench_ours_" + strconv.Itoa(round) + ".events",
	} {
		if err := b.conn.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	if err := b.rest(ctx); err != nil {
		return 0, err
	}
	runtime.GC()
	start := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(analyticsWriters)
	for _, rows := range b.rows {
		group.Go(func() error {
			// As the sink does, for the columns that SELECT * leaves out.
			groupCtx := clickhouse.Context(groupCtx, clickhouse.WithSettings(clickhouse.Settings{"insert_allow_materialized_columns": 1}))
			batch, err := b.conn.PrepareBatch(groupCtx, "INSERT INTO "+database+".events ("+analyticsColumns+")")
			if err != nil {
				return err
			}
			defer batch.Close() //nolint:errcheck // err, or Send's, tells why
			if err := fill(rows, batch); err != nil {
				return err
			}
			return batch.Send()
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if n, err := b.count(ctx, database); err != nil || n != uint64(b.cfg.Rows) {
		return 0, fmt.Errorf("%d of %d rows (%w)", n, b.cfg.Rows, err)
	}
	return float64(b.cfg.Rows) / took.Seconds(), nil
}
