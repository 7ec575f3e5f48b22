package main

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
)

// engine is an embedded engine that runs as a child process.
type engine interface {
	Done() <-chan struct{}
	Err() error
	Close() error
}

// supervisor starts an engine again, on the same port, when it dies. Meanwhile
// the services meet an outage, which they wait out.
type supervisor struct {
	name  string
	log   *slog.Logger
	start func(ctx context.Context) (engine, error)

	mu      sync.Mutex
	current engine
}

// run watches until ctx ends. It does not close the engine: others still use it.
func (s *supervisor) run(ctx context.Context) error {
	for {
		s.mu.Lock()
		watched := s.current
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-watched.Done():
		}
		s.log.Error("engine died, starting it again", "engine", s.name, "err", watched.Err())
		_ = watched.Close() // frees its folder; what it died of is logged
		if !s.again(ctx) {
			return nil
		}
	}
}

// again starts the engine until it is up; false if ctx ended first.
func (s *supervisor) again(ctx context.Context) bool {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		started, err := s.start(ctx)
		if err == nil {
			s.mu.Lock()
			s.current = started
			s.mu.Unlock()
			s.log.Info("engine is up again", "engine", s.name)
			return true
		}
		s.log.Error("engine does not start", "engine", s.name, "err", err, "again_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
}

func (s *supervisor) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.Close()
}

// portOf returns the port of an address that an engine has reported.
func portOf(addr string) int {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return port
}

// roomyPublisher refuses commands at once when the embedded log has no room,
// instead of letting each wait for its timeout.
type roomyPublisher struct {
	*kafka.Publisher

	room func() error
}

// PublishContext implements the publishers of post and graph.
func (p roomyPublisher) PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error {
	if err := p.room(); err != nil {
		return fault.Outage("the log takes nothing", err)
	}
	return p.Publisher.PublishContext(ctx, topic, msgs...)
}
