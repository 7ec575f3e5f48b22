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
	"activityfeed/internal/metric"
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
	state := metric.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
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
			// Any other error is an answer, so the engine is there.
			IsSuccessful: func(err error) bool { return fault.KindOf(err) != fault.Unavailable },
			IsExcluded: func(err error) bool {
				var silent *silence
				return errors.As(err, &silent)
			},
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
		produced, err := b.circuit.Execute(func() ([]*message.Message, error) {
			produced, err := h(msg)
			if saysNothing(msg.Context(), err) {
				err = &silence{err}
			}
			return produced, err
		})
		if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
			return nil, fault.Outage(b.name, ErrBreakerOpen)
		}
		var silent *silence
		if errors.As(err, &silent) {
			err = silent.err
		}
		return produced, err
	}
}

// saysNothing tells outcomes that hold no news of the engine: a cancelled call,
// and a poisoned message, which may never have come near it. If such a message is
// the probe of a half-open breaker, the next message probes.
func saysNothing(ctx context.Context, err error) bool {
	if deliveryOf(ctx).buried {
		return true
	}
	if err == nil {
		return false
	}
	reason, permanent := classify(ctx, err)
	return permanent || reason == reasonCancelled
}

// silence carries an outcome past the counters; its err may be nil.
type silence struct{ err error }

func (s *silence) Error() string { return "no news of the engine" }
