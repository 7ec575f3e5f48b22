package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/embedded"
)

// defaultPartitions is the default of --partitions.
const defaultPartitions = 8

// engineFlags say which engines to use. What is not named runs embedded.
type engineFlags struct {
	DataDir string `default:"activityfeed-data" help:"Folder of the embedded engines' data." type:"path"`

	Kafka      []string `group:"Engines" help:"Kafka brokers. None: an embedded log in the data folder." placeholder:"HOST:PORT"`
	KafkaPort  int      `default:"0" group:"Engines" help:"Port of the embedded log on 127.0.0.1; 0 picks a free one."`
	Partitions int      `default:"8" group:"Engines" help:"Partitions of the log when it is made. More partitions let more processes consume; it cannot be changed later without losing the order of old events."`
	Replicas   int      `default:"0" group:"Engines" help:"Replicas of the log when it is made on Kafka; 0 leaves it to the brokers."`
	Sync       string   `default:"os" enum:"os,fsync" group:"Engines" help:"When the embedded log has kept a record: os (survives a crash of the process) or fsync (survives a power cut, about 20 times slower)."`

	Redis         []string `group:"Engines" help:"Redis address; several are a Redis Cluster. None: an embedded Redis." placeholder:"HOST:PORT"`
	RedisUsername string   `group:"Engines" help:"Redis user."`
	RedisPassword string   `group:"Engines" help:"Redis password. Better given as ACTIVITYFEED_REDIS_PASSWORD."`
	RedisPort     int      `default:"0" group:"Engines" help:"Port of the embedded Redis on 127.0.0.1; 0 picks a free one."`

	Clickhouse         []string `group:"Engines" help:"ClickHouse native addresses. None: an embedded ClickHouse." placeholder:"HOST:PORT"`
	ClickhouseDatabase string   `default:"activityfeed" group:"Engines" help:"ClickHouse database, made if it does not exist."`
	ClickhouseUsername string   `default:"default" group:"Engines" help:"ClickHouse user."`
	ClickhousePassword string   `group:"Engines" help:"ClickHouse password. Better given as ACTIVITYFEED_CLICKHOUSE_PASSWORD."`
	ClickhousePort     int      `default:"0" group:"Engines" help:"Native port of the embedded ClickHouse on 127.0.0.1; 0 picks a free one."`
}

// engines are the opened ones. Embedded engines live as long as this process.
type engines struct {
	brokers []string
	redis   redis.UniversalClient
	// clickhouse has no address when there is no engine.
	clickhouse clickhouseTarget
	endpoints  endpoints
	// room says why the embedded log takes nothing, nil while it does.
	room func() error
	// children are the embedded engines that can die on their own.
	children []*supervisor

	closers []func() error
}

type clickhouseTarget struct {
	addr               []string
	database           string
	username, password string
}

// openEngines starts the embedded engines that the roles need and connects to
// the others. A missing engine is no error: its part of the system waits.
func openEngines(ctx context.Context, f engineFlags, roles roleSet, log *slog.Logger) (*engines, error) {
	e := &engines{brokers: f.Kafka, room: func() error { return nil }}
	opened := false
	defer func() {
		if !opened {
			e.close(log)
		}
	}()
	if err := e.openLog(f, log); err != nil { // the embedded log lives longer than the start
		return nil, err
	}
	if roles.needsRedis() {
		if err := e.openRedis(ctx, f, log); err != nil {
			return nil, err
		}
	}
	if roles.has(roleAnalytics) {
		if err := e.openClickHouse(ctx, f, log); err != nil {
			return nil, err
		}
	}
	e.endpoints.Kafka = e.brokers
	opened = true
	return e, nil
}

func (e *engines) openLog(f engineFlags, log *slog.Logger) error {
	if len(e.brokers) > 0 {
		return nil
	}
	kafka, err := embedded.StartKafka(embedded.KafkaConfig{
		Dir:  filepath.Join(f.DataDir, "kafka"),
		Port: f.KafkaPort,
		Sync: f.Sync,
	}, log)
	if err != nil {
		return fmt.Errorf("embedded log: %w", err)
	}
	e.brokers, e.room = kafka.Brokers(), kafka.Room
	e.closers = append(e.closers, kafka.Close)
	return nil
}

func (e *engines) openRedis(ctx context.Context, f engineFlags, log *slog.Logger) error {
	addrs := f.Redis
	if len(addrs) == 0 {
		cfg := embedded.RedisConfig{Dir: filepath.Join(f.DataDir, "redis"), Port: f.RedisPort}
		server, err := embedded.StartRedis(ctx, cfg, log)
		if err != nil {
			return fmt.Errorf("embedded Redis: %w", err)
		}
		cfg.Port = portOf(server.Addr())
		e.supervise("redis", server, log, func(ctx context.Context) (engine, error) { return embedded.StartRedis(ctx, cfg, log) })
		addrs = []string{server.Addr()}
	}
	e.redis = dialRedis(addrs, f.RedisUsername, f.RedisPassword)
	e.endpoints.Redis = addrs
	e.closers = append(e.closers, e.redis.Close)
	return nil
}

// dialRedis connects to one Redis, or to a cluster if there are several addresses.
func dialRedis(addrs []string, username, password string) redis.UniversalClient {
	options := &redis.UniversalOptions{
		Addrs:    addrs,
		Username: username,
		Password: password,
		// Retries belong to the domains' middleware, which knows what may be repeated.
		MaxRetries:            -1,
		DialTimeout:           2 * time.Second,
		ContextTimeoutEnabled: true,
	}
	cluster := options.Cluster()
	// A pipeline that meets a dead node does not ask who has its slots now: without
	// this, a failover of two seconds is an outage of the client's 60.
	cluster.ClusterStateReloadInterval = time.Second
	if len(addrs) > 1 {
		return redis.NewClusterClient(cluster)
	}
	return redis.NewUniversalClient(options)
}

func (e *engines) openClickHouse(ctx context.Context, f engineFlags, log *slog.Logger) error {
	e.clickhouse = clickhouseTarget{f.Clickhouse, f.ClickhouseDatabase, f.ClickhouseUsername, f.ClickhousePassword}
	if len(f.Clickhouse) == 0 {
		cfg := embedded.ClickHouseConfig{Dir: filepath.Join(f.DataDir, "clickhouse"), TCPPort: f.ClickhousePort}
		server, err := embedded.StartClickHouse(ctx, cfg, log)
		if errors.Is(err, embedded.ErrEngineMissing) {
			log.Warn("analytics waits: the log keeps its events until a ClickHouse is there", "err", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("embedded ClickHouse: %w", err)
		}
		cfg.TCPPort = portOf(server.Addr())
		e.supervise("clickhouse", server, log, func(ctx context.Context) (engine, error) { return embedded.StartClickHouse(ctx, cfg, log) })
		e.clickhouse = clickhouseTarget{[]string{server.Addr()}, f.ClickhouseDatabase, embedded.ClickHouseUser, server.Password()}
		// The tools read as the analyst, who can break nothing.
		e.endpoints.ClickHouse.Username, e.endpoints.ClickHouse.Password = embedded.ClickHouseAnalyst, server.AnalystPassword()
	}
	e.endpoints.ClickHouse.Addr, e.endpoints.ClickHouse.Database = e.clickhouse.addr, e.clickhouse.database
	return nil
}

func (e *engines) supervise(name string, started engine, log *slog.Logger, start func(context.Context) (engine, error)) {
	s := &supervisor{name: name, log: log, start: start, current: started}
	e.children = append(e.children, s)
	e.closers = append(e.closers, s.close)
}

// close ends the engines in the reverse order of their start.
func (e *engines) close(log *slog.Logger) {
	for _, closer := range slices.Backward(e.closers) {
		if err := closer(); err != nil {
			log.Warn("closing an engine", "err", err)
		}
	}
}

// Roles of a process. One process may have several.
const (
	roleAPI       = "api"
	roleFeed      = "feed"
	roleAnalytics = "analytics"
	roleNotify    = "notify"
)

type roleSet []string

func allRoles() roleSet { return roleSet{roleAPI, roleFeed, roleAnalytics, roleNotify} }

// parseRoles reads the --roles flag; "all" stands for every role.
func parseRoles(names []string) (roleSet, error) {
	all := allRoles()
	var roles roleSet
	for _, name := range names {
		switch {
		case name == "all":
			return all, nil
		case slices.Contains(all, name):
			roles = append(roles, name)
		default:
			return nil, fmt.Errorf("--roles: %q is not one of all, %s", name, strings.Join(all, ", "))
		}
	}
	if len(roles) == 0 {
		return nil, errors.New("--roles: name at least one of all, " + strings.Join(all, ", "))
	}
	return roles, nil
}

func (r roleSet) has(role string) bool { return slices.Contains(r, role) }

func (r roleSet) needsRedis() bool {
	return r.has(roleAPI) || r.has(roleFeed) || r.has(roleNotify)
}
