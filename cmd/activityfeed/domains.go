package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/analytics"
	"activityfeed/feed"
	"activityfeed/graph"
	"activityfeed/internal/app"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rpc"
	"activityfeed/notify"
	"activityfeed/post"
	"activityfeed/seen"
)

// consumerConfig are the limits of the subscribers of all services.
type consumerConfig struct {
	Window       int           `default:"512" help:"Events that one service handles at the same time."`
	Tracked      int           `default:"10000" help:"Events that one service holds while an older one is unfinished; what a crash repeats at most."`
	Drain        time.Duration `default:"10s" help:"How long running handlers may go on at a stop or a rebalance."`
	MaxBackoff   time.Duration `default:"30s" help:"Longest pause before an event that failed is tried again."`
	BatchRecords int           `default:"50000" help:"Events in one insert into ClickHouse at most."`
	BatchBytes   int           `default:"16777216" help:"Bytes in one insert into ClickHouse at most."`
	BatchWait    time.Duration `default:"1s" help:"How long an event waits for its batch to fill at most; half as long in the mean."`
}

// addDomains builds the domains of the process's roles. This is the one place
// where they meet.
func (s *server) addDomains(publisher *kafka.Publisher) error {
	if s.roles.has(roleAnalytics) && len(s.engines.clickhouse.addr) > 0 {
		if err := s.addAnalytics(publisher); err != nil {
			return err
		}
	}
	if !s.roles.needsRedis() {
		return nil
	}
	var ids *event.IDs
	if s.roles.has(roleAPI) || s.roles.has(roleNotify) {
		var err error
		if ids, err = event.NewIDs(s.cfg.Node, time.Now); err != nil {
			return err
		}
	}
	feeds, err := s.newFeed(publisher, ids)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, feeds.Close)
	notifications, err := s.newNotify(publisher, ids)
	if err != nil {
		return err
	}
	if s.roles.has(roleAPI) {
		if err := s.addAPI(publisher, ids, feeds, notifications); err != nil {
			return err
		}
	}
	if s.roles.has(roleFeed) {
		s.consumers = append(s.consumers, app.Part{Name: roleFeed, Run: feeds.Run})
	}
	// Without its consumer role, notify still carries new rows to live streams.
	if s.roles.has(roleNotify) || s.roles.has(roleAPI) {
		s.consumers = append(s.consumers, app.Part{Name: roleNotify, Run: notifications.Run})
	}
	return nil
}

func (s *server) addAPI(publisher *kafka.Publisher, ids *event.IDs, feeds *feed.Feed, notifications *notify.Notify) error {
	source := sourceName(s.cfg.Node)
	commands := roomyPublisher{publisher, s.engines.room}
	tail := kafka.NewTail(kafka.TailConfig{
		Brokers: s.engines.brokers,
		Topic:   event.Topic,
		// An hour more than is needed: the brokers' clock may differ from ours.
		Since: time.Now().Add(-s.cfg.Post.IdempotencyWindow - time.Hour),
	}, s.log)
	posts, err := post.New(s.cfg.Post, post.Deps{Log: s.log, Publisher: commands, Tail: tail, IDs: ids, Now: time.Now, Source: source, Metrics: s.metrics})
	if err != nil {
		return err
	}
	graphs, err := graph.New(s.cfg.Graph, graph.Deps{Log: s.log, Publisher: commands, Follows: feeds, IDs: ids, Source: source})
	if err != nil {
		return err
	}
	if s.rpc, err = rpc.New(s.cfg.API, s.log, s.metrics); err != nil {
		return err
	}
	if s.cfg.API.CertFile != "" {
		cert, err := os.ReadFile(s.cfg.API.CertFile)
		if err != nil {
			return err
		}
		s.engines.endpoints.APICert = string(cert)
	}
	posts.Register(s.rpc.Registrar())
	graphs.Register(s.rpc.Registrar())
	feeds.Register(s.rpc.Registrar())
	notifications.Register(s.rpc.Registrar())
	listener := s.apiPort
	s.engines.endpoints.API = listener.Addr().String()
	s.frontend = append(s.frontend, app.Part{Name: "gRPC", Run: func(ctx context.Context) error { return s.rpc.Serve(ctx, listener) }})
	s.backend = append(s.backend, app.Part{Name: "post", Run: posts.Run}, app.Part{Name: "live feeds", Run: feeds.RunLive})
	return nil
}

// newFeed builds the feed; ids are those of the role api, nil without it.
func (s *server) newFeed(publisher *kafka.Publisher, ids *event.IDs) (*feed.Feed, error) {
	deps := feed.Deps{
		Log: s.log.With("service", roleFeed), Redis: s.engines.redis, Publisher: publisher,
		Reports: s.reports, Metrics: s.metrics, Now: time.Now,
	}
	if ids != nil {
		marks, err := seen.New(s.cfg.Seen, seen.Deps{Publisher: roomyPublisher{publisher, s.engines.room}, IDs: ids, Source: sourceName(s.cfg.Node)})
		if err != nil {
			return nil, err
		}
		deps.Marks = marks
		// Not the tail of post: that one begins a day ago, and commands wait for it.
		deps.Tail = kafka.NewTail(kafka.TailConfig{
			Brokers: s.engines.brokers,
			Topic:   event.Topic,
			// A minute more than is needed: the brokers' clock may differ from ours.
			Since: time.Now().Add(-feed.LiveSince - time.Minute),
		}, s.log)
		deps.Behind = func(ctx context.Context, start map[int32]int64) (bool, error) {
			return s.admin.Behind(ctx, roleFeed, event.Topic, start)
		}
	}
	if s.roles.has(roleFeed) {
		main, retry, err := s.subscribers(roleFeed, nil)
		if err != nil {
			return nil, err
		}
		deps.Subscriber, deps.RetrySubscriber = main, retry
	}
	return feed.New(s.cfg.Feed, deps)
}

// newNotify builds notify; ids are those of this process.
func (s *server) newNotify(publisher *kafka.Publisher, ids *event.IDs) (*notify.Notify, error) {
	deps := notify.Deps{
		Log: s.log.With("service", roleNotify), Redis: s.engines.redis, Publisher: publisher,
		Facts: roomyPublisher{publisher, s.engines.room}, IDs: ids, Source: sourceName(s.cfg.Node),
		Senders: s.push.senders, WebPushKey: s.push.applicationServerKey,
		Reports: s.reports, Metrics: s.metrics, Now: time.Now,
	}
	if s.roles.has(roleNotify) {
		main, retry, err := s.subscribers(roleNotify, nil)
		if err != nil {
			return nil, err
		}
		deps.Subscriber, deps.RetrySubscriber = main, retry
		if deps.AccountSubscriber, err = s.subscriber(roleNotify, accountGroup, nil); err != nil {
			return nil, err
		}
	}
	return notify.New(s.cfg.Notify, deps)
}

func (s *server) addAnalytics(publisher message.Publisher) error {
	c := s.cfg.Consumer
	batch := &kafka.BatchConfig{MaxRecords: c.BatchRecords, MaxBytes: c.BatchBytes, MaxWait: c.BatchWait, InStep: true}
	main, retry, err := s.subscribers(roleAnalytics, batch)
	if err != nil {
		return err
	}
	deliveries, err := s.subscriber(roleAnalytics, deliveryGroup, batch)
	if err != nil {
		return err
	}
	cfg := s.cfg.Analytics
	cfg.Addr, cfg.Database = strings.Join(s.engines.clickhouse.addr, ","), s.engines.clickhouse.database
	cfg.Username, cfg.Password = s.engines.clickhouse.username, s.engines.clickhouse.password
	sink, err := analytics.New(cfg, analytics.Deps{
		Log: s.log.With("service", roleAnalytics), Publisher: publisher,
		Subscriber: main, RetrySubscriber: retry, DeliverySubscriber: deliveries,
		Reports: s.reports, Metrics: s.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	s.consumers = append(s.consumers, app.Part{Name: roleAnalytics, Run: sink.Run})
	return nil
}

// subscribers returns a service's two sources: the log, in the consumer group
// of the service's name, and its own replayed poison.
func (s *server) subscribers(service string, batch *kafka.BatchConfig) (log, retry *kafka.Subscriber, err error) {
	if log, err = s.subscriber(service, service, batch); err != nil {
		return nil, nil, err
	}
	retry, err = s.subscriber(service, retryGroup(service), nil)
	return log, retry, err
}

// subscriber returns one source of a service, as a consumer group.
func (s *server) subscriber(service, group string, batch *kafka.BatchConfig) (*kafka.Subscriber, error) {
	cfg := kafka.SubscriberConfig{
		Brokers:        s.engines.brokers,
		ClientID:       "activityfeed-" + service,
		Group:          group,
		MaxInFlight:    s.cfg.Consumer.Window,
		MaxTracked:     s.cfg.Consumer.Tracked,
		Drain:          s.cfg.Consumer.Drain,
		MaxNackBackoff: s.cfg.Consumer.MaxBackoff,
		Batch:          batch,
	}
	if batch != nil {
		// What may be held follows from the size of the batches.
		cfg.MaxTracked = 0
	}
	return kafka.NewSubscriber(cfg, s.log, s.metrics)
}

// deliveryGroup reads what the services did, for analytics: apart from the log's
// group, as with retries.
const deliveryGroup = roleAnalytics + ".deliveries"

// accountGroup reads what people set for themselves, in a group of its own: a
// rebalance of it must not stop the others.
const accountGroup = roleNotify + "." + event.AccountTopic

// retryGroup reads a service's retry topic, apart from the log's group: a
// rebalance of one must not stop the other.
func retryGroup(service string) string { return service + ".retry" }
