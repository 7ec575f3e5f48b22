package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/rebuild"
)

const (
	// projectionPoll is how often Redis is asked whether it still has what it had.
	projectionPoll = 5 * time.Second
	// projectionTimeout bounds one look, and rewinding.
	projectionTimeout = 10 * time.Second
	// healLease is how long a process that rebuilds may be silent before another does.
	healLease = 30 * time.Second
	// healRate is how many commands a second go to Redis while it serves, as the default
	// of `activityfeed rebuild`.
	healRate = 20_000
)

var (
	errOtherLog = errors.New("redis has the feeds of another log")
	errLostOnce = errors.New("redis lost its content once more")
)

// projections watches over what the services of this process keep in Redis: all of it
// comes from the log, so what Redis has lost is made anew, at the start or while we run.
//
// A marker a service tells: it names the log that the rest comes from. Redis being away
// is no loss. On a cluster the marker tells of the node that has it, and a node that was
// lost alone may go unnoticed: `activityfeed audit --every` finds out.
type projections struct {
	log   *slog.Logger
	redis redis.UniversalClient
	admin *kafka.Admin
	// rebuilds make a service's projection anew beside its consumers.
	rebuilds map[string]func(ctx context.Context) error
	lost     *prometheus.GaugeVec
	source   string // names this process in a lease
	lease    time.Duration
}

// newProjections returns those of the roles that this process has.
func (s *server) newProjections() *projections {
	p := &projections{
		log: s.log, redis: s.engines.redis, admin: s.admin, lease: healLease, source: sourceName(s.cfg.Node),
		rebuilds: make(map[string]func(context.Context) error),
		lost: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "activityfeed_projection_lost", Help: "1 while Redis lacks what the service keeps there and it is made anew.",
		}, []string{"service"}),
	}
	s.metrics.MustRegister(p.lost)
	con := &console{out: io.Discard, err: io.Discard, log: s.log}
	cfg := rebuild.Config{Rate: healRate}
	for service, remake := range map[string]func(ctx context.Context) error{
		roleFeed: func(ctx context.Context) error {
			_, _, err := rebuildFeeds(ctx, cfg, s.cfg.Feed, s.engines.brokers, s.engines.redis, history{}, newAskedUsers(nil), con)
			return err
		},
		roleNotify: func(ctx context.Context) error {
			_, _, err := rebuildInboxes(ctx, cfg, s.cfg.Notify, s.engines.brokers, s.engines.redis, newAskedUsers(nil), con)
			return err
		},
	} {
		if s.roles.has(service) {
			p.rebuilds[service] = remake
			p.lost.WithLabelValues(service).Set(0)
		}
	}
	return p
}

// start looks at the markers before anything consumes. A service that has nothing in
// Redis reads the log from its beginning; errOtherLog says that Redis is another log's.
func (p *projections) start(ctx context.Context) error {
	for service := range p.rebuilds {
		lost, err := p.verify(ctx, service)
		if err != nil {
			return err
		}
		if !lost {
			continue
		}
		if err := p.rewind(ctx, service); err != nil {
			p.log.Warn("the consumers cannot begin anew: what they keep is made beside them", "service", service, "err", err)
			continue // by run
		}
		p.log.Info("nothing of this service is in Redis: it reads the log from the beginning", "service", service)
		if err := p.mark(ctx, service); err != nil {
			return err
		}
	}
	return nil
}

// run makes anew what gets lost, until ctx ends.
func (p *projections) run(ctx context.Context) error {
	tick := time.NewTicker(projectionPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for service := range p.rebuilds {
			lost, err := p.verify(ctx, service)
			if err != nil {
				return err
			}
			if !lost {
				continue
			}
			if err := p.heal(ctx, service); err != nil && ctx.Err() == nil {
				p.log.Error("what Redis has lost could not be made anew: trying again", "service", service, "err", err)
			}
		}
	}
}

// verify says whether Redis answers and has nothing of the service; a marker of an older
// version it writes anew. The error is errOtherLog.
func (p *projections) verify(ctx context.Context, service string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, projectionTimeout)
	defer cancel()
	marker, err := p.redis.Get(ctx, projectionMarker(service)).Result()
	if errors.Is(err, redis.Nil) {
		return true, nil
	}
	if err != nil {
		return false, nil // the services wait for it, and say so
	}
	id, err := p.admin.TopicID(ctx, event.Topic)
	if err != nil || id == "" {
		return false, nil // the log is away, or of a kind that has no ids
	}
	if marker == id {
		return false, nil
	}
	if topicID.MatchString(marker) {
		return false, fmt.Errorf("%w: key %s says %s, the log's id is %s. Give this log a Redis of its own, bring the other log back, or empty that Redis: what this log has comes back by itself",
			errOtherLog, projectionMarker(service), marker, id)
	}
	return false, p.mark(ctx, service) // a time, as older versions wrote
}

// topicID is what a log is known by.
var topicID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (p *projections) rewind(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, projectionTimeout)
	defer cancel()
	err := p.admin.Rewind(ctx, service, event.Topic)
	if err == nil && service == roleNotify {
		err = p.admin.Rewind(ctx, accountGroup, event.AccountTopic)
	}
	return err
}

// heal makes a service's projection anew beside its consumers, unless another process
// does. Two at once would do no harm.
func (p *projections) heal(ctx context.Context, service string) error {
	lease := projectionMarker(service) + ":lease"
	held, err := p.redis.SetNX(ctx, lease, p.source, p.lease).Result()
	if err != nil || !held {
		return err
	}
	p.lost.WithLabelValues(service).Set(1)
	defer p.lost.WithLabelValues(service).Set(0)
	p.log.Error("Redis has lost what this service keeps there: it is made anew from the log, and answers are incomplete until then", "service", service)
	begin := time.Now()
	err = p.holding(ctx, lease, p.rebuilds[service])
	if err == nil {
		err = p.mark(ctx, service)
	}
	if err != nil {
		return err
	}
	p.log.Info("what Redis had lost is there again", "service", service, "took", time.Since(begin).Round(time.Millisecond))
	return p.redis.Del(ctx, lease).Err()
}

// holding does the work while it prolongs the lease. The error is errLostOnce if the
// lease is gone: then so may be what the work has written.
func (p *projections) holding(ctx context.Context, lease string, work func(context.Context) error) error {
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- work(working) }()
	tick := time.NewTicker(p.lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if held, err := p.redis.PExpire(ctx, lease, p.lease).Result(); err == nil && !held {
				cancel(errLostOnce)
			}
		case err := <-ended:
			if cause := context.Cause(working); cause != nil {
				return cause
			}
			if err != nil {
				return err
			}
			held, err := p.redis.PExpire(ctx, lease, p.lease).Result()
			if err == nil && !held {
				return errLostOnce
			}
			return err
		}
	}
}

// mark says that the service's projection of this log is in Redis, or about to be.
func (p *projections) mark(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, projectionTimeout)
	defer cancel()
	id, err := p.admin.TopicID(ctx, event.Topic)
	if err == nil {
		if id == "" {
			id = time.Now().UTC().Format(time.RFC3339)
		}
		err = p.redis.Set(ctx, projectionMarker(service), id, 0).Err()
	}
	if err != nil {
		return fmt.Errorf("mark the projection of %s: %w", service, err)
	}
	return nil
}

// projectionMarker is the key that says whose projection is there.
func projectionMarker(service string) string { return "activityfeed:projection:" + service }

// sourceName is the ce_source of this process's events: which process accepted
// them, for people who follow an event back.
func sourceName(node int) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return "//" + host + "/activityfeed/" + strconv.Itoa(node)
}
