package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
)

// rewindIfLost compares a marker in Redis with the log. The marker is written
// when a service first starts on a Redis; a Redis without it holds nothing of
// the service, so the consumer group starts again at the log's beginning. Redis
// being away is no loss: the marker is looked for at the next start.
func (s *server) rewindIfLost(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	marker := projectionMarker(service)
	_, err := s.engines.redis.Get(ctx, marker).Result()
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, redis.Nil):
		s.log.Warn("Redis does not answer: the service waits for it", "service", service, "err", err)
		return nil
	}
	if err := s.admin.Rewind(ctx, service, event.Topic); err != nil {
		return fmt.Errorf("rewind %s to the beginning of the log: %w", service, err)
	}
	if service == roleNotify {
		if err := s.admin.Rewind(ctx, accountGroup, event.AccountTopic); err != nil {
			return fmt.Errorf("rewind %s to the beginning of what people set: %w", service, err)
		}
	}
	s.log.Info("nothing of this service is in Redis: it reads the log from the beginning", "service", service)
	if err := s.engines.redis.Set(ctx, marker, time.Now().UTC().Format(time.RFC3339), 0).Err(); err != nil {
		return fmt.Errorf("mark the projection of %s: %w", service, err)
	}
	return nil
}

// projectionMarker is the key that says that a service has a projection there.
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
