package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load"
)

// loadCmd replays a social graph and posts through the public API.
type loadCmd struct {
	Target target      `embed:""`
	Graph  string      `required:"" help:"Edge list, plain or gzip: 'a b' means a follows b." placeholder:"FILE" type:"existingfile"`
	Load   load.Config `embed:""`
}

// loadConnections is enough for the calls of one machine to spread over the
// server's connections.
const loadConnections = 4

// Run sends the plan.
func (c *loadCmd) Run(ctx context.Context, con *console) error {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	security, err := c.Target.security(e)
	if err != nil {
		return err
	}
	cfg := c.Load
	cfg.Terminal = con.progressIsLive()
	if cfg.Graph, err = load.ReadFile(c.Graph); err != nil {
		return err
	}
	fmt.Fprintf(con.err, "%s: %d users, %d follows\n", c.Graph, len(cfg.Graph.Users), len(cfg.Graph.Follows))
	conns, err := load.Dial(e.API, loadConnections, security)
	if err != nil {
		return err
	}
	defer conns.Close()
	clients := conns.Clients()
	if len(e.Kafka) > 0 {
		clients.Settle = c.settle
	}
	result, err := load.Run(ctx, cfg, clients, con.err)
	if err != nil {
		err = c.Target.explain(err)
	}
	return errors.Join(result.Write(con.out), err)
}

// settle waits until the feeds have what the log has. A server that is killed and
// started again in the middle of a load has other ports: they are looked up anew.
func (c *loadCmd) settle(ctx context.Context) error {
	giveUp := time.Now().Add(c.Load.Patience)
	for {
		err := c.settleOnce(ctx)
		var away noServerError // between its end and its start
		if (fault.KindOf(err) != fault.Unavailable && !errors.As(err, &away)) || ctx.Err() != nil || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *loadCmd) settleOnce(ctx context.Context) error {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	admin, err := kafka.NewAdmin(e.Kafka)
	if err != nil {
		return err
	}
	defer admin.Close()
	return waitForConsumers(ctx, admin, roleFeed)
}

// waitForConsumers returns when the services have done everything in the log.
func waitForConsumers(ctx context.Context, admin *kafka.Admin, services ...string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var behind int64
		for _, service := range services {
			lag, err := admin.Lag(ctx, service, event.Topic)
			if err != nil {
				return err
			}
			behind += lag
		}
		if behind == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d events behind: %w", behind, ctx.Err())
		}
	}
}
