package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// Redis loses everything under a server that runs: nobody has to do anything.
func TestLostRedisIsMadeAnew(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	srv := serve(t, func(cfg *serveCmd) { cfg.Roles = []string{roleAPI, roleFeed, roleNotify} })
	if out, err := srv.tool("load", "--graph", generatedGraph(t, 40), "--posts", "100", "--warm", "0.7", "--deletes", "0.1"); err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
	client := srv.engines.redis
	conn, err := dial(srv.endpoints().API)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	inbox := func() (ids []string) {
		resp, err := pb.NewNotificationServiceClient(conn).ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "u0", PageSize: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range resp.GetNotifications() {
			ids = append(ids, n.GetNotificationId())
		}
		return ids
	}
	if out, err := srv.tool("audit"); err != nil { // waits for feed, not for notify
		t.Fatalf("audit of a whole server: %v\n%s", err, out)
	}
	if err := srv.caughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := inbox()
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; {
		n, err := client.Exists(t.Context(), projectionMarker(roleFeed), projectionMarker(roleNotify)).Result()
		if err == nil && n == 2 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d of 2 markers are there again, %v", n, err)
		}
		time.Sleep(50 * time.Millisecond) // Redis has no other signal
	}
	if out, err := srv.tool("audit"); err != nil {
		t.Errorf("audit after the loss: %v\n%s", err, out)
	}
	if diff := cmp.Diff(before, inbox()); len(before) == 0 || diff != "" {
		t.Errorf("an inbox of %d rows (-before +after the loss):\n%s", len(before), diff)
	}
}

func TestHeal(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	id, err := admin.TopicID(t.Context(), event.Topic)
	if err != nil {
		t.Fatal(err)
	}
	marker := projectionMarker(roleFeed)
	errBroken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		before map[string]string
		work   func(ctx context.Context, client *redis.Client) error
		want   error
		worked bool
		marker string // afterwards; empty: none
	}{
		{"what is lost is made", nil, nil, nil, true, id},
		{"by one process", map[string]string{marker + ":lease": "another"}, nil, nil, false, ""},
		{"it fails", nil, func(context.Context, *redis.Client) error { return errBroken }, errBroken, true, ""},
		{"it is lost again meanwhile", nil, func(ctx context.Context, client *redis.Client) error {
			return client.FlushAll(ctx).Err()
		}, errLostOnce, true, ""},
		{"it is lost again, and takes long", nil, func(ctx context.Context, client *redis.Client) error {
			client.FlushAll(ctx)
			<-ctx.Done()
			return ctx.Err()
		}, errLostOnce, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := testenv.RedisClient(t, testenv.MiniRedis(t).Addr())
			for key, value := range tt.before {
				client.Set(t.Context(), key, value, 0)
			}
			worked := false
			p := &projections{
				log: testenv.Logger(t), redis: client, admin: admin, lease: 300 * time.Millisecond,
				lost: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lost", Help: "As in newProjections."}, []string{"service"}),
			}
			p.rebuilds = map[string]func(context.Context) error{roleFeed: func(ctx context.Context) error {
				worked = true
				if shown := testenv.Value(t, p.lost.WithLabelValues(roleFeed)); shown != 1 {
					t.Errorf("activityfeed_projection_lost = %v meanwhile, want 1", shown)
				}
				if tt.work == nil {
					return nil
				}
				return tt.work(ctx, client)
			}}
			if err := p.heal(t.Context(), roleFeed); !errors.Is(err, tt.want) || worked != tt.worked {
				t.Errorf("heal = %v, worked %v; want %v, %v", err, worked, tt.want, tt.worked)
			}
			if shown := testenv.Value(t, p.lost.WithLabelValues(roleFeed)); shown != 0 {
				t.Errorf("activityfeed_projection_lost = %v afterwards, want 0", shown)
			}
			if got := client.Get(t.Context(), marker).Val(); got != tt.marker {
				t.Errorf("the marker is %q, want %q", got, tt.marker)
			}
		})
	}
}

// A Redis with the feeds of one log is given to a server with another, by mistake or
// because the first log is gone: neither's feeds may be mixed with the other's.
func TestRedisOfAnotherLogIsRefused(t *testing.T) {
	redisAddr, log := testenv.Redis(t), testenv.Kafka(t)
	start := func(kafka []string) error {
		cfg, err := defaultServeConfig(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Roles = []string{roleAPI, roleFeed}
		cfg.Engines.Kafka, cfg.Engines.Redis = kafka, []string{redisAddr}
		srv, err := newServer(t.Context(), cfg, testenv.Logger(t))
		if err == nil {
			srv.close()
		}
		return err
	}
	client := testenv.RedisClient(t, redisAddr)
	for _, tt := range []struct {
		name   string
		before func()
		log    []string
		want   string // of the error; empty: none
	}{
		{"an empty one", func() {}, log, ""},
		{"its own", func() {}, log, ""},
		{"one of an older version", func() { client.Set(t.Context(), projectionMarker(roleFeed), "2026-11-22T08:00:00Z", 0) }, log, ""},
		{"another's", func() {}, testenv.Kafka(t), "empty that Redis"},
		{"the same, emptied", func() { client.FlushAll(t.Context()) }, testenv.Kafka(t), ""},
	} {
		tt.before()
		err := start(tt.log)
		if refused := errors.Is(err, errOtherLog); refused != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: start = %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	rebuild := []string{"rebuild", "--data-dir", t.TempDir(), "--kafka", log[0], "--redis", redisAddr}
	if err := run(t.Context(), rebuild, io.Discard, io.Discard); !errors.Is(err, errOtherLog) {
		t.Errorf("rebuild from the first log = %v, want %v", err, errOtherLog)
	}
}
