package kafka_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/kafka"
)

// member is a process of the group: a subscriber, and handlers run as a Router
// runs them, one goroutine a message.
type member struct {
	name   string
	sub    *kafka.Subscriber
	cable  *cable
	cancel context.CancelFunc
	// batches: its messages are batches.
	batches bool
	// dead is set when the process was killed: what its handlers do is void.
	dead     atomic.Bool
	handlers sync.WaitGroup
	done     chan struct{} // closed when the channel was closed and the handlers are done
}

// handler decides what becomes of a message; true acknowledges.
type handler func(m *member, msg *message.Message) bool

func join(t *testing.T, c cluster, name string, cfg kafka.SubscriberConfig, topic string, handle handler) *member {
	t.Helper()
	m := &member{name: name, cable: new(cable), batches: cfg.Batch != nil, done: make(chan struct{})}
	cfg.Brokers, cfg.ClientID = c.brokers, name
	sub, err := kafka.NewSubscriber(cfg.WithOptions(kgo.Dialer(m.cable.Dial)), testLog(t).With("member", name), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.sub = sub
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	messages, err := sub.Subscribe(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.done)
		for msg := range messages {
			m.handlers.Go(func() {
				if handle(m, msg) {
					msg.Ack()
				} else {
					msg.Nack()
				}
			})
		}
		m.handlers.Wait()
	}()
	return m
}

// leave closes the member as a process that stops does, and waits for it.
func (m *member) leave() {
	_ = m.sub.Close()
	m.cancel()
	<-m.done
}

// kill cuts the member off without a word to anybody. Its handlers run on, like
// those of a process that the group gave up; what is left of it is put away.
func (m *member) kill() {
	m.dead.Store(true)
	m.cable.cut()
	m.cancel()
}

// moody handles messages as in real life: mostly quickly, at times slowly, at
// times with an error, and at times without looking at the context.
func moody(l *ledger, rng *rand.Rand, mu *sync.Mutex, slow time.Duration) handler {
	return func(m *member, msg *message.Message) bool {
		h := l.begin(m, msg)
		mu.Lock()
		mood, pause := rng.IntN(100), time.Duration(rng.Int64N(int64(10*time.Millisecond)))
		mu.Unlock()
		switch mood {
		case 0: // long, and deaf: its acknowledgement may come late
			sleep(context.Background(), slow)
		case 1: // long
			sleep(msg.Context(), slow)
		default:
			sleep(msg.Context(), pause)
		}
		acked := mood < 90
		l.end(h, acked)
		return acked
	}
}

// steady handles messages as one wishes.
func steady(l *ledger) handler {
	return func(m *member, msg *message.Message) bool {
		l.end(l.begin(m, msg), true)
		return true
	}
}

// sleep is handler's work: it takes its time, unless the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
