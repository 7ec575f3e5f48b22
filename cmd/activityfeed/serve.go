package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"activityfeed/analytics"
	"activityfeed/feed"
	"activityfeed/graph"
	"activityfeed/internal/app"
	"activityfeed/internal/delivery"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rpc"
	"activityfeed/notify"
	"activityfeed/post"
	"activityfeed/seen"
	"activityfeed/web"
)

// serveCmd runs the services.
type serveCmd struct {
	Roles []string `default:"all" help:"What this process does: all, or some of api, feed, analytics, notify."`
	Node  int      `default:"0" help:"Number of this process among those that accept commands, 0 to 1023: it keeps their ids apart."`
	Ops   string   `default:"127.0.0.1:9091" help:"Address of the operator's port: /metrics, /livez, /readyz."`

	Engines   engineFlags      `embed:""`
	API       rpc.Config       `embed:"" prefix:"api-" group:"API"`
	Post      post.Config      `embed:"" prefix:"post-" group:"API"`
	Graph     graph.Config     `embed:"" prefix:"graph-" group:"API"`
	Seen      seen.Config      `embed:"" prefix:"seen-" group:"API"`
	Consumer  consumerConfig   `embed:"" prefix:"consumer-" group:"Consumers"`
	Feed      feed.Config      `embed:"" prefix:"feed-" group:"Feed"`
	Analytics analytics.Config `embed:"" prefix:"analytics-" group:"Analytics"`
	Notify    notify.Config    `embed:"" prefix:"notify-" group:"Notify"`
	Push      pushConfig       `embed:"" prefix:"push-" group:"Push"`
}

// Run serves until the process is told to stop.
func (c *serveCmd) Run(ctx context.Context, con *console) error {
	redis.SetLogger(redisLog{con.log})
	srv, err := newServer(ctx, *c, con.log)
	if err != nil {
		return err
	}
	srv.greet(con)
	return srv.run(ctx)
}

// defaultServeConfig returns the configuration of `serve` with no flags, on free
// ports and in a folder of the caller's.
func defaultServeConfig(dataDir string) (serveCmd, error) {
	var c serveCmd
	parser, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		return c, err
	}
	_, err = parser.Parse([]string{"--data-dir", dataDir, "--api-addr", "127.0.0.1:0", "--ops", "127.0.0.1:0"})
	return c, err
}

// server is one process of the system: its engines and the parts of its roles.
type server struct {
	cfg     serveCmd
	roles   roleSet
	log     *slog.Logger
	metrics *prometheus.Registry
	engines *engines
	admin   *kafka.Admin

	// apiPort is nil without the role api.
	apiPort, opsPort net.Listener

	rpc  *rpc.Server
	ops  *app.Ops
	push pushers
	// reports takes what the consumers did to the log; it is stopped after them.
	reports *delivery.Reporter
	// What runs, in the order in which it is stopped.
	frontend, backend, consumers []app.Part
	closers                      []func() error
}

// newServer opens the engines and builds the parts of the roles. Nothing
// consumes or serves before run.
func newServer(ctx context.Context, cfg serveCmd, log *slog.Logger) (*server, error) {
	roles, err := parseRoles(cfg.Roles)
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, roles: roles, log: log, metrics: prometheus.NewRegistry(), engines: new(engines)}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open finds out what cannot work, then starts the engines, then builds the parts.
func (s *server) open(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	opened, err := openEngines(ctx, s.cfg.Engines, s.roles, s.log)
	if err != nil {
		return err
	}
	s.engines = opened
	s.warnOfAbsent()
	return s.build(ctx)
}

// prepare does everything that may fail for what the operator has given: settings,
// folder, ports, keys. No engine runs yet.
func (s *server) prepare(ctx context.Context) error {
	if err := s.cfg.check(s.roles); err != nil {
		return err
	}
	if err := s.cfg.Engines.checkFolders(ctx, s.roles); err != nil {
		return err
	}
	var err error
	if s.apiPort, s.opsPort, err = s.cfg.listen(s.roles); err != nil {
		return err
	}
	// Whoever serves on a port closes it; this is for a start that fails before.
	for _, port := range []net.Listener{s.apiPort, s.opsPort} {
		if port != nil {
			s.closers = append(s.closers, func() error { _ = port.Close(); return nil })
		}
	}
	if s.push, err = newPushers(s.cfg.Push, s.cfg.Engines.DataDir, s.log.With("service", roleNotify)); err != nil {
		return err
	}
	s.closers = append(s.closers, s.push.close)
	return nil
}

func (s *server) build(ctx context.Context) error {
	var err error
	if s.admin, err = kafka.NewAdmin(s.engines.brokers); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { s.admin.Close(); return nil })
	if err := s.makeTopics(ctx); err != nil {
		return err
	}
	if s.engines.redis != nil {
		projections := s.newProjections()
		if err := projections.start(ctx); err != nil {
			return err
		}
		s.consumers = append(s.consumers, app.Part{Name: "projections", Run: projections.run})
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: s.engines.brokers, ClientID: "activityfeed"}, s.log)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, publisher.Close)
	s.reports = delivery.NewReporter(delivery.Config{Source: sourceName(s.cfg.Node)}, publisher, s.log, s.metrics)
	if err := s.addDomains(publisher); err != nil {
		return err
	}
	s.ops = app.NewOpsOn(s.opsPort, s.metrics, s.ready, s.log)
	s.ops.Handle("GET /push/", web.Handler())
	s.engines.endpoints.Ops = s.ops.Addr()
	withdraw, err := s.engines.endpoints.publish(s.cfg.Engines.DataDir)
	if err != nil {
		return fmt.Errorf("tell the tools where the server is: %w", err)
	}
	s.closers = append(s.closers, withdraw)
	return nil
}

// run runs the parts until ctx ends or one of them does, stops them in order
// and closes the engines last. Extra parts stop first.
func (s *server) run(ctx context.Context, extra ...app.Part) error {
	defer func() {
		s.close()
		s.log.Info("stopped")
	}()
	reports := []app.Part{{Name: "delivery reports", Run: s.reports.Run}}
	operator := []app.Part{{Name: "operator's port", Run: s.ops.Run}}
	for _, child := range s.engines.children {
		operator = append(operator, app.Part{Name: child.name, Run: child.run})
	}
	return app.RunStages(ctx, s.log, extra, s.frontend, s.backend, s.consumers, reports, operator)
}

func (s *server) close() {
	for _, closer := range slices.Backward(s.closers) {
		if err := closer(); err != nil {
			s.log.Warn("closing", "err", err)
		}
	}
	s.engines.close(s.log)
}

func (s *server) endpoints() endpoints { return s.engines.endpoints }

// services are the consumers of this process, by consumer group.
func (s *server) services() []string {
	var names []string
	for _, role := range []string{roleFeed, roleAnalytics, roleNotify} {
		if s.roles.has(role) && (role != roleAnalytics || len(s.engines.clickhouse.addr) > 0) {
			names = append(names, role)
		}
	}
	return names
}

// warnOfAbsent tells of roles that nobody has: an embedded log is usually one
// process's own, and then nothing is wrong but that feeds stay empty.
func (s *server) warnOfAbsent() {
	var absent []string
	for _, role := range allRoles() {
		if !s.roles.has(role) {
			absent = append(absent, role)
		}
	}
	if len(s.cfg.Engines.Kafka) == 0 && len(absent) > 0 {
		s.log.Warn("the log is embedded in this process, so these roles run nowhere: give them to this process too (--roles), or let all processes use one Kafka (--kafka)",
			"roles", strings.Join(absent, ","))
	}
}

// caughtUp waits until the consumers of this process have done everything that
// is in the log.
func (s *server) caughtUp(ctx context.Context) error {
	return waitForConsumers(ctx, s.admin, s.services()...)
}

// ready says whether the log and Redis answer.
func (s *server) ready(ctx context.Context) error {
	var problems []error
	if err := s.admin.Ping(ctx); err != nil {
		problems = append(problems, fmt.Errorf("log: %w", err))
	}
	if err := s.engines.room(); err != nil {
		problems = append(problems, fmt.Errorf("log: %w", err))
	}
	if s.engines.redis != nil {
		if err := s.engines.redis.Ping(ctx).Err(); err != nil {
			problems = append(problems, fmt.Errorf("redis: %w", err))
		}
	}
	return errors.Join(problems...)
}
