package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"activityfeed/analytics"
	"activityfeed/feed"
	"activityfeed/graph"
	"activityfeed/internal/app"
	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
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

// deliveryPartitions bounds how many processes store delivery facts at once.
const deliveryPartitions = 4

// makeTopics makes what the roles read and write, and waits for the brokers.
func (s *server) makeTopics(ctx context.Context) error {
	topics := map[string]kafka.TopicConfig{
		event.Topic:        {Partitions: s.cfg.Engines.Partitions, Replicas: s.cfg.Engines.Replicas},
		event.AccountTopic: {Partitions: s.cfg.Engines.Partitions, Replicas: s.cfg.Engines.Replicas},
		// A few facts for each post, in no order.
		delivery.Topic: {Partitions: deliveryPartitions, Replicas: s.cfg.Engines.Replicas},
	}
	if len(s.cfg.Engines.Kafka) > 0 {
		// The embedded log keeps everything: see embedded.Kafka.Clean.
		account := topics[event.AccountTopic]
		account.Config = map[string]string{"cleanup.policy": "compact"}
		topics[event.AccountTopic] = account
	}
	for _, service := range []string{roleFeed, roleAnalytics, roleNotify} {
		for _, topic := range []string{event.PoisonTopic(service), event.RetryTopic(service)} {
			topics[topic] = kafka.TopicConfig{Partitions: 1, Replicas: s.cfg.Engines.Replicas}
		}
	}
	if err := s.awaitLog(ctx, logPatience); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.admin.EnsureTopics(ctx, topics); err != nil {
		return fmt.Errorf("%s: %w", s.logName(), err)
	}
	return s.comparePartitions(ctx)
}

const (
	// logPatience is how long a start waits for the log.
	logPatience = 30 * time.Second
	// logPing bounds one question meanwhile; pingPause lies between two.
	logPing   = 3 * time.Second
	pingPause = 500 * time.Millisecond
)

// awaitLog returns when a broker answers. Redis and ClickHouse may come when they come:
// their services wait, and what they miss is in the log. Without the log there is
// nothing to do, and a wrong address would look like a server.
func (s *server) awaitLog(ctx context.Context, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var cause error
	for {
		asking, done := context.WithTimeout(waiting, logPing)
		err := s.admin.Ping(asking)
		done()
		if err == nil {
			return nil
		}
		if cause == nil {
			s.log.Warn("waiting for the log", "at", s.logName(), "gives_up_in", patience, "err", logFailure(err))
		}
		if cause == nil || waiting.Err() == nil { // the last question may have been cut short
			cause = logFailure(err)
		}
		select {
		case <-waiting.Done():
		case <-time.After(pingPause):
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: stopped while waiting for it: %w", s.logName(), cause)
		case waiting.Err() != nil:
			return fmt.Errorf("%s: %w; nothing works without the log, so this gives up after %s: start Kafka there, or correct the address", s.logName(), cause, patience)
		}
	}
}

// logFailure is why no broker has answered, without what was asked.
func logFailure(err error) error {
	if f := fault.Of(err); f != nil {
		err = f.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("nothing there answers as Kafka does")
	}
	return err
}

// logName is the flag that says where the log is.
func (s *server) logName() string {
	if len(s.cfg.Engines.Kafka) == 0 {
		return "embedded log"
	}
	return "--kafka " + strings.Join(s.cfg.Engines.Kafka, ",")
}

// comparePartitions tells of a log that was made with other partitions: it keeps them.
func (s *server) comparePartitions(ctx context.Context) error {
	ends, err := s.admin.EndOffsets(ctx, event.Topic)
	if err != nil {
		return fmt.Errorf("%s: %w", s.logName(), err)
	}
	if want := s.cfg.Engines.Partitions; len(ends) != want && want != defaultPartitions {
		s.log.Warn("--partitions is not used: the log was made with another number and keeps it, as the order of old events would be lost",
			"asked", want, "partitions", len(ends))
	}
	return nil
}

// warnOfAbsent tells of roles that nobody has: an embedded log is usually one
// process's own, and then nothing is wrong but that feeds stay empty.
func (s *server) warnOfAbsent() {
	var absent []string
	for _, role := range allRoles {
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

// fact is one line of what a server says of itself at its start.
type fact struct{ key, label, value string }

// greet says what runs where, and what to try: to people, or as one line of the log
// where machines read it.
func (s *server) greet(con *console) {
	facts := s.facts()
	if con.logConfig.Format == "json" {
		attrs := []any{"pid", os.Getpid()}
		for _, f := range facts {
			attrs = append(attrs, f.key, f.value)
		}
		con.log.Info("activityfeed is up", attrs...)
		return
	}
	fmt.Fprintf(con.out, "activityfeed is up (pid %d)\n", os.Getpid())
	for _, f := range facts {
		fmt.Fprintf(con.out, "  %-12s %s\n", f.label, f.value)
	}
	if tips := s.tips(); len(tips) > 0 {
		fmt.Fprintf(con.out, "Try, in another terminal:\n  %s\n", strings.Join(tips, "\n  "))
	}
	fmt.Fprintln(con.out, "Ctrl-C stops it in order.")
}

func (s *server) facts() []fact {
	e := s.endpoints()
	facts := []fact{
		{"roles", "roles", strings.Join(s.roles, ", ")},
		{"grpc", "gRPC", e.API},
		{"operator", "operator", "http://" + e.Ops + "/metrics"},
		{"log", "log", strings.Join(e.Kafka, ", ")},
		{"redis", "Redis", strings.Join(e.Redis, ", ")},
		{"clickhouse", "ClickHouse", strings.Join(e.ClickHouse.Addr, ", ")},
	}
	if s.push.applicationServerKey != "" {
		facts = append(facts, fact{"web_push", "Web Push", "http://" + e.Ops + "/push/?key=" + s.push.applicationServerKey})
	}
	facts = append(facts, fact{"data", "data", s.cfg.Engines.DataDir})
	return slices.DeleteFunc(facts, func(f fact) bool { return f.value == "" })
}

// tips are commands that work on this server.
func (s *server) tips() []string {
	e, dir := s.endpoints(), s.cfg.Engines.DataDir
	var tips []string
	if e.API != "" && s.cfg.API.CertFile == "" { // the loader speaks no TLS
		tips = append(tips, "activityfeed load --graph FILE --data-dir "+dir)
	}
	if len(e.ClickHouse.Addr) > 0 {
		tips = append(tips, "activityfeed sql --data-dir "+dir+` "SELECT event_type, count() FROM events GROUP BY 1"`)
	}
	return tips
}

// redisLog takes what the Redis client says by itself, in the log's format: what it
// fails at, the services say too.
type redisLog struct{ log *slog.Logger }

// Printf is what the client calls.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client: "+strings.TrimPrefix(fmt.Sprintf(format, args...), "redis: "))
}
