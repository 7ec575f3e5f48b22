package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
)

const (
	closed   = 0.0
	halfOpen = 1.0
	open     = 2.0
)

// circuit is a breaker around a handler whose answer the test sets.
type circuit struct {
	reg   *prometheus.Registry
	log   bytes.Buffer
	err   error
	calls int
	h     message.HandlerFunc
}

func newCircuit(stack ...message.HandlerMiddleware) *circuit {
	c := &circuit{reg: prometheus.NewRegistry()}
	b := middleware.NewBreaker(middleware.BreakerConfig{Name: "feed-redis", Volume: 10, Pause: 5 * time.Second},
		slog.New(slog.NewTextHandler(&c.log, nil)), c.reg)
	c.h = func(*message.Message) ([]*message.Message, error) { c.calls++; return nil, c.err }
	for _, layer := range slices.Backward(stack) {
		c.h = layer(c.h)
	}
	c.h = b.Middleware(c.h)
	return c
}

func (c *circuit) call(times int, err error) error {
	var last error
	c.err = err
	for range times {
		_, last = c.h(newMessage(subject, "x"))
	}
	return last
}

func (c *circuit) state(t *testing.T) float64 {
	return value(t, c.reg, "activityfeed_breaker_state", "name=feed-redis")
}

var down = fault.Outage("write", errUnknown)

func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	type step struct {
		times int
		err   error
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  float64
	}{
		{"half of all calls are outages", []step{{5, nil}, {5, down}}, open},
		{"less than half", []step{{6, nil}, {5, down}}, closed},
		{"too few calls to tell", []step{{9, down}}, closed},
		{"unknown errors are answers", []step{{100, errUnknown}}, closed},
		{"permanent faults say nothing", []step{{9, down}, {100, fault.Poison("invalid", errUnknown)}, {1, down}}, open},
		{"cancelled calls say nothing", []step{{9, down}, {100, fault.Outage("x", context.Canceled)}}, closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCircuit()
				for _, s := range tt.steps {
					if got := c.call(s.times, s.err); !errors.Is(got, s.err) {
						t.Errorf("a closed breaker answers %v, want the handler's %v", got, s.err)
					}
				}
				if got := c.state(t); got != tt.want {
					t.Errorf("state = %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestBreakerForgetsOldFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCircuit()
		for range 20 {
			c.call(9, down) // counted
			time.Sleep(11 * time.Second)
		}
		if got := c.state(t); got != closed {
			t.Errorf("state = %v, want closed: never 10 calls in 10 s", got)
		}
	})
}

func TestBreakerSparesTheEngineAndProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCircuit()
		c.call(10, down) // opens it
		c.calls = 0
		err := c.call(1000, nil)
		if c.calls != 0 || fault.KindOf(err) != fault.Unavailable || !errors.Is(err, middleware.ErrBreakerOpen) {
			t.Errorf("open: %d calls got through, error %v", c.calls, err)
		}

		time.Sleep(6 * time.Second)
		c.call(1000, down) // one probes
		if c.calls != 1 || c.state(t) != open {
			t.Errorf("after a failed probe: %d calls, state %v", c.calls, c.state(t))
		}

		time.Sleep(6 * time.Second)
		c.calls = 0
		c.call(3, fault.Outage("x", context.Canceled)) // says nothing
		if c.calls != 3 || c.state(t) != halfOpen {
			t.Errorf("after cancelled probes: %d calls, state %v, want each to be followed by another", c.calls, c.state(t))
		}
		if err := c.call(1000, nil); err != nil || c.state(t) != closed {
			t.Errorf("after a good probe: %v, state %v", err, c.state(t))
		}
		for _, change := range []string{"from=closed to=open", "from=open to=half-open", "from=half-open to=open", "from=half-open to=closed"} {
			if !strings.Contains(c.log.String(), change) {
				t.Errorf("log has no %q:\n%s", change, c.log.String())
			}
		}
	})
}

func TestBreakerLetsOneProbeThroughAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release, probing := make(chan struct{}), 0
		h := middleware.NewBreaker(middleware.BreakerConfig{Name: "x", Volume: 1, Pause: time.Second}, discard(), nil).
			Middleware(func(*message.Message) ([]*message.Message, error) {
				if probing++; probing > 1 {
					<-release
				}
				return nil, down
			})
		h(newMessage(subject, "x")) // opens it
		time.Sleep(2 * time.Second)
		done := make(chan struct{})
		go func() {
			defer close(done)
			h(newMessage(subject, "x")) // the probe
		}()
		synctest.Wait()
		if _, err := h(newMessage(subject, "x")); !errors.Is(err, middleware.ErrBreakerOpen) {
			t.Errorf("beside a probe: %v, want an open breaker", err)
		}
		close(release)
		<-done
	})
}

// A poisoned message never came near the engine: as a probe it proves nothing.
func TestPoisonIsNoProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
		c := newCircuit(p.Permanent)
		c.h = p.Suspected(c.h)
		c.call(10, down) // opens it
		time.Sleep(6 * time.Second)
		if err := c.call(1, fault.Poison("invalid", errUnknown)); err != nil || len(topic.reasons(t)) != 1 {
			t.Fatalf("poison in a half-open breaker: %v, letters %v", err, topic.reasons(t))
		}
		if got := c.state(t); got != halfOpen {
			t.Errorf("state = %v, want half-open still", got)
		}
		if err := c.call(1, nil); err != nil || c.state(t) != closed {
			t.Errorf("the next message: %v, state %v", err, c.state(t))
		}
	})
}
