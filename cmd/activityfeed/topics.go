package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
)

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
