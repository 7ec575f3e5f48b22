package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"

	"activityfeed/internal/fault"
)

// ErrBreakerOpen is inside the outage that an open breaker answers with.
var ErrBreakerOpen = errors.New("breaker is open")

// BreakerConfig says when a breaker opens and for how long.
type BreakerConfig struct {
	// Name is the engine behind it, for logs and metrics: "feed-redis".
	Name string
	// Share of calls that must fail to open it, 0 to 1. 0 means 0.5.
	Share float64
	// Volume is how many calls the window must hold before the share counts.
	// 0 means 20.
	Volume int
	// Window is the time over which calls are counted. 0 means 10 s.
	Window time.Duration
	// Pause is how long it stays open before one call may probe. 0 means 5 s.
	Pause time.Duration
}

// Breaker spares an engine that is down: while it is open, messages fail at once
// and back off in their lanes instead of waiting for timeouts. Afterwards one
// message at a time probes until one succeeds.
type Breaker struct {
	name    string
	circuit *gobreaker.CircuitBreaker[[]*message.Message]
}

// NewBreaker returns a closed breaker. Its state is the gauge
// activityfeed_breaker_state{name}: 0 closed, 1 half-open, 2 open. A nil reg
// means no metrics.
func NewBreaker(cfg BreakerConfig, log *slog.Logger, reg prometheus.Registerer) *Breaker {
	if cfg.Share <= 0 {
		cfg.Share = 0.5
	}
	if cfg.Volume <= 0 {
		cfg.Volume = 20
	}
	if cfg.Window <= 0 {
		cfg.Window = 10 * time.Second
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 5 * time.Second
	}
	state := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "activityfeed_breaker_state",
		Help: "State of a circuit breaker: 0 closed, 1 half-open, 2 open.",
	}, []string{"name"})).WithLabelValues(cfg.Name)
	state.Set(float64(gobreaker.StateClosed))

	return &Breaker{
		name: cfg.Name,
		circuit: gobreaker.NewCircuitBreaker[[]*message.Message](gobreaker.Settings{
			Name:         cfg.Name,
			MaxRequests:  1,
			Interval:     cfg.Window,
			BucketPeriod: cfg.Window / 10,
			Timeout:      cfg.Pause,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				settled := c.TotalSuccesses + c.TotalFailures
				return int(settled) >= cfg.Volume && float64(c.TotalFailures) >= cfg.Share*float64(settled)
			},
			// A bad event says nothing about the engine; it even shows that the
			// engine answers.
			IsSuccessful: func(err error) bool { return fault.KindOf(err) != fault.Unavailable },
			// A cancelled call says nothing at all.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
			OnStateChange: func(_ string, from, to gobreaker.State) {
				state.Set(float64(to))
				log.Warn("breaker changed state", "breaker", cfg.Name, "from", from.String(), "to", to.String())
			},
		}),
	}
}

// Middleware counts the handler's outages and answers with one while open.
func (b *Breaker) Middleware(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		produced, err := b.circuit.Execute(func() ([]*message.Message, error) { return h(msg) })
		if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
			return nil, fault.Outage(b.name, ErrBreakerOpen)
		}
		return produced, err
	}
}
