package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
)

// subject is the id of the message under test; everything else is a neighbour.
const subject = "1700000000000000001"

var errUnknown = errors.New("nobody knows this error")

// TestPolicy runs a real router with the stack of doc.go, breaker aside, over
// rows of "what the handler does" and "what must have become of the message".
// Time is virtual: an hour of outage takes milliseconds.
func TestPolicy(t *testing.T) {
	t.Parallel()
	const retries, attempts = 3, 8
	always := func(err error) func(int) error { return func(int) error { return err } }

	type outcome struct {
		// Calls of the handler for the subject; -1 stands for "more than 50, and no end".
		Calls int
		Acked bool
		// Letters are the reasons in the poison topic, in order.
		Letters []string
		// NeighboursDone says whether each neighbour was processed.
		NeighboursDone bool
	}
	for _, tt := range []struct {
		name string
		// handler gives the subject's result by number of call, from 1.
		handler func(call int) error
		// neighbour gives the result of all other messages; nil means success.
		neighbour func(call int) error
		// closing closes the poison policy before the subject arrives.
		closing bool
		// publishFails lets so many publications of letters fail.
		publishFails int
		want         outcome
	}{
		{
			name:    "success is one call",
			handler: always(nil),
			want:    outcome{Calls: 1, Acked: true, NeighboursDone: true},
		},
		{
			name: "transient failure is retried in place",
			handler: func(call int) error {
				if call <= retries {
					return errUnknown
				}
				return nil
			},
			want: outcome{Calls: 1 + retries, Acked: true, NeighboursDone: true},
		},
		{
			name:    "permanent failure is poison at the first call",
			handler: always(fmt.Errorf("handle: %w", fault.Poison(event.ReasonInvalid, errUnknown))),
			want:    outcome{Calls: 1, Acked: true, Letters: []string{"invalid"}, NeighboursDone: true},
		},
		{
			name:    "panic is poison at the first call",
			handler: func(int) error { panic("impossible") },
			want:    outcome{Calls: 1, Acked: true, Letters: []string{"panic"}, NeighboursDone: true},
		},
		{
			name:    "outage is never poison, though neighbours succeed",
			handler: always(fault.Outage("read feed of ann", errUnknown)),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:    "outage that wraps a permanent fault is an outage",
			handler: always(fault.Outage("insert", fault.Poison("too many parts", errUnknown))),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:    "deadline without a kind is an outage",
			handler: always(fmt.Errorf("read: %w", context.DeadlineExceeded)),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name: "outage heals by itself",
			handler: func(call int) error {
				if call <= 90 {
					return fault.Outage("write", errUnknown)
				}
				return nil
			},
			want: outcome{Calls: 91, Acked: true, NeighboursDone: true},
		},
		{
			name:    "unknown error is poison after N deliveries beside healthy neighbours",
			handler: always(errUnknown),
			want:    outcome{Calls: attempts * (1 + retries), Acked: true, Letters: []string{"exhausted"}, NeighboursDone: true},
		},
		{
			name:      "service that fails everything has an outage, whatever the error says",
			handler:   always(errUnknown),
			neighbour: always(errUnknown),
			want:      outcome{Calls: -1},
		},
		{
			name:    "cancellation is never poison",
			handler: always(fmt.Errorf("read: %w", context.Canceled)),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:    "cancelled call that calls itself permanent is not believed",
			handler: always(fault.Poison(event.ReasonInvalid, context.Canceled)),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:    "nothing permanent is poisoned while closing",
			closing: true,
			handler: always(fault.Poison(event.ReasonInvalid, errUnknown)),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:    "nothing unknown is poisoned while closing",
			closing: true,
			handler: always(errUnknown),
			want:    outcome{Calls: -1, NeighboursDone: true},
		},
		{
			name:         "letter that cannot be written is a nack, and comes again",
			handler:      always(fault.Poison(event.ReasonUndecodable, errUnknown)),
			publishFails: 9,
			want:         outcome{Calls: 10, Acked: true, Letters: []string{"undecodable"}, NeighboursDone: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var calls, neighbours int
				var mu sync.Mutex
				letters := &recorder{failures: tt.publishFails}
				poison := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: attempts}, letters, discard(), nil)
				p := startPipe(t, func(msg *message.Message) error {
					mu.Lock()
					defer mu.Unlock()
					if msg.UUID == subject {
						calls++
						return tt.handler(calls)
					}
					if tt.neighbour != nil {
						return tt.neighbour(0)
					}
					neighbours++
					return nil
				}, poison.Suspected, middleware.Retry{Attempts: retries}.Middleware, poison.Permanent, wmiddleware.Recoverer)
				if tt.closing {
					poison.Close()
				}

				p.publish(t, subject)
				sent := 0
				for range 500 {
					time.Sleep(time.Second)
					sent++
					p.publish(t, strconv.Itoa(sent))
				}
				time.Sleep(time.Hour)
				p.stop(t)

				got := outcome{Calls: calls, Acked: p.acked(subject), Letters: letters.reasons(t), NeighboursDone: neighbours == sent}
				if got.Calls > 50 && !got.Acked {
					got.Calls = -1
				}
				if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// pipe is a router on gochannel with a middleware stack.
type pipe struct {
	router *message.Router
	pubsub *gochannel.GoChannel
	done   chan error

	mu       sync.Mutex
	attempts map[string]int
	ackedIDs map[string]bool
}

func startPipe(t *testing.T, handler message.NoPublishHandlerFunc, stack ...message.HandlerMiddleware) *pipe {
	t.Helper()
	p := &pipe{
		pubsub:   gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}),
		done:     make(chan error, 1),
		attempts: map[string]int{},
		ackedIDs: map[string]bool{},
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	p.router = router
	// What internal/kafka does: it counts deliveries, and a nacked message waits.
	router.AddSubscriberDecorators(message.MessageTransformSubscriberDecorator(func(msg *message.Message) {
		if msg != nil {
			msg.SetContext(record.WithOrigin(msg.Context(), p.origin(msg.UUID)))
		}
	}))
	router.AddMiddleware(p.lane)
	router.AddMiddleware(stack...)
	router.AddConsumerHandler("activity", event.Topic, p.pubsub, handler)
	go func() { p.done <- router.Run(t.Context()) }()
	<-router.Running()
	return p
}

func (p *pipe) origin(id string) record.Origin {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts[id]++
	return record.Origin{Topic: event.Topic, Partition: 3, Offset: 42, LastOffset: 42, Time: time.Now(), Attempt: p.attempts[id]}
}

func (p *pipe) lane(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := h(msg)
		if err != nil {
			select {
			case <-time.After(min(time.Minute, time.Second<<min(10, record.OriginOf(msg.Context()).Attempt))):
			case <-msg.Context().Done():
			}
			return out, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ackedIDs[msg.UUID] = true
		return out, nil
	}
}

func (p *pipe) publish(t *testing.T, id string) {
	t.Helper()
	msg := message.NewMessage(id, []byte("payload of "+id))
	msg.Metadata[record.KeyMetadata] = "ann"
	msg.Metadata["ce_type"] = "activityfeed.v1.PhotoPosted"
	if err := p.pubsub.Publish(event.Topic, msg); err != nil {
		t.Fatal(err)
	}
}

func (p *pipe) acked(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ackedIDs[id]
}

func (p *pipe) stop(t *testing.T) {
	t.Helper()
	if err := p.pubsub.Close(); err != nil {
		t.Error(err)
	}
	if err := p.router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

// recorder is a poison topic. Its first publications fail.
type recorder struct {
	mu       sync.Mutex
	failures int
	messages []*message.Message
	topics   map[string]bool
	ctxErrs  []error
}

func (r *recorder) Publish(topic string, messages ...*message.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures > 0 {
		r.failures--
		return errors.New("broker is gone")
	}
	if r.topics == nil {
		r.topics = map[string]bool{}
	}
	r.topics[topic] = true
	for _, msg := range messages {
		r.ctxErrs = append(r.ctxErrs, msg.Context().Err())
	}
	r.messages = append(r.messages, messages...)
	return nil
}

func (r *recorder) Close() error { return nil }

// reasons fails the test if anything but a letter of feed was published.
func (r *recorder) reasons(t *testing.T) []string {
	t.Helper()
	letters := r.letters(t)
	reasons := make([]string, 0, len(letters))
	for _, l := range letters {
		reasons = append(reasons, l.Reason)
	}
	for topic := range maps.Keys(r.topics) {
		if topic != "feed.poison" {
			t.Errorf("published to %s", topic)
		}
	}
	return reasons
}

func (r *recorder) letters(t *testing.T) []middleware.Letter {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.ctxErrs, func(err error) bool { return err != nil }); i >= 0 {
		t.Errorf("letter %d was published with a dead context: %v", i, r.ctxErrs[i])
	}
	letters := make([]middleware.Letter, 0, len(r.messages))
	for _, msg := range r.messages {
		l, tombstone, err := middleware.ParseLetter(msg)
		if err != nil || tombstone {
			t.Fatalf("ParseLetter(%v) = %v, %v, %v", msg, l, tombstone, err)
		}
		letters = append(letters, l)
	}
	return letters
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// value reads one sample of a registry: its labels joined by ",".
func value(t *testing.T, reg *prometheus.Registry, name, labels string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var pairs []string
			for _, l := range m.GetLabel() {
				pairs = append(pairs, l.GetName()+"="+l.GetValue())
			}
			if f.GetName() == name && strings.Join(pairs, ",") == labels {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
