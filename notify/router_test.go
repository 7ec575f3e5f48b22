package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	"activityfeed/notify/push"
)

// pipeline is a Notify behind the real publisher and subscribers, on a broker in
// this process.
type pipeline struct {
	*world

	t         *testing.T
	brokers   []string
	publisher *kafka.Publisher
	metrics   *prometheus.Registry
	// stop ends Run and returns what it returned.
	stop func() error
}

func newPipeline(t *testing.T, brokers []string, client redis.UniversalClient, cfg Config) *pipeline {
	t.Helper()
	return newGroupPipeline(t, "notify", brokers, client, cfg)
}

func newGroupPipeline(t *testing.T, group string, brokers []string, client redis.UniversalClient, cfg Config) *pipeline {
	t.Helper()
	return newPushPipeline(t, group, brokers, client, cfg, nil)
}

func newPushPipeline(
	t *testing.T, group string, brokers []string, client redis.UniversalClient, cfg Config, senders push.Senders,
) *pipeline {
	t.Helper()
	log := testenv.Logger(t)
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { publisher.Close() })
	subscriber := func() *kafka.Subscriber {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			// Events that come again count here: nobody is expelled for a stall.
			Brokers: brokers, Group: group, Heartbeat: 100 * time.Millisecond, Session: 30 * time.Second,
			Rebalance: 5 * time.Second, NackBackoff: 10 * time.Millisecond, MaxNackBackoff: 100 * time.Millisecond,
		}, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{event.Topic, event.AccountTopic, event.RetryTopic(serviceName), event.PoisonTopic(serviceName)} {
			if err := s.SubscribeInitialize(topic); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	p := &pipeline{world: newWorld(t, client, cfg), t: t, brokers: brokers, publisher: publisher, metrics: prometheus.NewRegistry()}
	p.Notify, err = New(cfg, Deps{
		Log: log, Redis: client, Subscriber: subscriber(), RetrySubscriber: subscriber(), AccountSubscriber: subscriber(), Publisher: publisher,
		Facts: publisher, IDs: p.ids, Source: "test", Senders: senders,
		Metrics: p.metrics, Now: p.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return p
}

// publish puts facts into the log, in order.
func (p *pipeline) publish(facts ...proto.Message) {
	p.t.Helper()
	for _, fact := range facts {
		msg, err := event.Encode(p.event(fact))
		if err != nil {
			p.t.Fatal(err)
		}
		p.send(event.Topic, msg)
	}
}

func (p *pipeline) send(topic string, msg *message.Message) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	if err := p.publisher.PublishContext(ctx, topic, msg); err != nil {
		p.t.Fatal(err)
	}
}

// becomes waits until a user sees these rows.
func (p *pipeline) becomes(user string, want ...string) {
	p.t.Helper()
	var got []string
	testenv.Await(p.t, "inbox of "+user, func() bool { got = p.inbox(user); return slices.Equal(got, want) || p.t.Failed() })
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("inbox of %s (-want +got):\n%s", user, diff)
	}
}

// poison reads so many letters.
func (p *pipeline) poison(n int) []*message.Message {
	p.t.Helper()
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: p.brokers}, testenv.Logger(p.t), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	messages, err := s.Subscribe(ctx, event.PoisonTopic(serviceName))
	if err != nil {
		p.t.Fatal(err)
	}
	var letters []*message.Message
	for len(letters) < n {
		msg, open := <-messages
		if !open {
			p.t.Fatalf("read %d letters, want %d", len(letters), n)
		}
		letters = append(letters, msg)
		msg.Ack()
	}
	return letters
}

// counted returns the sum of a counter or gauge over the labels, "name" or
// "name{value}".
func (p *pipeline) counted(name string) float64 {
	p.t.Helper()
	name, label, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	families, err := p.metrics.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			matches := label == ""
			for _, pair := range m.GetLabel() {
				matches = matches || pair.GetValue() == label
			}
			if family.GetName() == name && matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestEventsComeThroughTheLog(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	client := realRedis(t)
	p := newPipeline(t, brokers, client, Config{})
	p.publish(followed("bob", "ann", levelEvery), posted("ann", 1, "cid"), posted("ann", 2), deleted("ann", 2))
	p.becomes("bob", "post ann 0001")
	p.becomes("cid", "mention ann 0001")
	p.becomes("ann", "follow bob")

	// Neither what is no event, nor an event of a newer version, holds up the key.
	bad := message.NewMessage("x", []byte("\xff\xff"))
	bad.Metadata = message.Metadata{record.KeyMetadata: "ann"}
	p.send(event.Topic, bad)
	newer, err := event.Encode(p.event(posted("ann", 3)))
	if err != nil {
		t.Fatal(err)
	}
	newer.Metadata.Set("ce_type", "activityfeed.v1.PhotoPraised")
	p.send(event.Topic, newer)
	p.publish(posted("ann", 4))
	p.becomes("bob", "post ann 0004", "post ann 0001")
	if letters := p.poison(1); string(letters[0].Payload) != "\xff\xff" {
		t.Errorf("poisoned %q", letters[0].Payload)
	}

	// What is replayed out of poison comes on its own topic.
	replayed, err := event.Encode(p.event(posted("ann", 5)))
	if err != nil {
		t.Fatal(err)
	}
	p.send(event.RetryTopic(serviceName), replayed)
	p.becomes("bob", "post ann 0005", "post ann 0004", "post ann 0001")

	for name, want := range map[string]float64{
		"activityfeed_notify_rows_total{post}":                   4, // one of them gone again
		"activityfeed_notify_rows_total{mention}":                1,
		"activityfeed_notify_rows_total{follow}":                 1,
		"activityfeed_notify_skipped_events_total{unknown_type}": 1,
	} {
		if got := p.counted(name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	if err := p.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}

	// The next process goes on where this one stopped.
	p = newPipeline(t, brokers, client, Config{})
	p.publish(posted("ann", 6))
	p.becomes("bob", "post ann 0006", "post ann 0005", "post ann 0004", "post ann 0001")
	if got := p.counted("activityfeed_notify_rows_total"); got != 1 {
		t.Errorf("the next process wrote %v rows, want 1", got)
	}
}

// A group that lost its place reads the whole log again, and nothing changes.
func TestTheWholeLogAgainChangesNothing(t *testing.T) {
	t.Parallel()
	var facts []proto.Message
	for n := range 60 {
		who, whom := people[n%4], people[(n+1+n/4%3)%4]
		facts = append(facts, followed(who, whom, levelEvery), posted(whom, n, who))
		if n%5 == 0 {
			facts = append(facts, unfollowed(who, whom), deleted(whom, n))
		}
	}
	brokers, client := testenv.Kafka(t), realRedis(t)
	passes := make([][][]string, 0, 2)
	for _, group := range []string{"first", "second"} {
		p := newGroupPipeline(t, group, brokers, client, Config{})
		if group == "first" {
			p.publish(facts...)
		}
		testenv.Await(t, "all events", func() bool {
			return p.counted("activityfeed_messages_handled_total{processed}") == float64(len(facts))
		})
		inboxes := make([][]string, 0, len(people))
		for _, user := range people {
			inboxes = append(inboxes, p.inbox(user))
		}
		passes = append(passes, inboxes)
		if err := p.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if wrote := p.counted("activityfeed_notify_rows_total"); (wrote > 0) != (group == "first") {
			t.Errorf("the %s pass wrote %v rows", group, wrote)
		}
	}
	if diff := cmp.Diff(passes[0], passes[1]); diff != "" {
		t.Errorf("inboxes after the second pass (-first +second):\n%s", diff)
	}
}

// While Redis is away nothing is lost and nothing is poison.
func TestOutageHeals(t *testing.T) {
	t.Parallel()
	cfg := embedded.RedisConfig{
		Dir: t.TempDir(), Binary: "redis-server", Port: testenv.FreePort(t), Settings: map[string]string{"appendfsync": "always"},
	}
	server := testenv.RedisServer(t, cfg)
	p := newPipeline(t, testenv.Kafka(t), testenv.RedisClient(t, server.Addr()), Config{MaxAttempts: 1, RetryMax: 10 * time.Millisecond})
	p.publish(posted("ann", 0, "bob"))
	p.becomes("bob", "mention ann 0000")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"mention ann 0000"}
	for n := range 10 {
		p.publish(posted("ann", n+1, "bob"), posted("cid", n+11, "bob"))
		want = append([]string{fmt.Sprintf("mention cid %04d", n+11), fmt.Sprintf("mention ann %04d", n+1)}, want...)
	}
	testenv.Await(t, "deliveries to fail", func() bool { return p.counted("activityfeed_messages_failed_total{outage}") > 5 })
	testenv.RedisServer(t, cfg)
	testenv.Await(t, "Redis to answer", func() bool { return p.deps.Redis.Ping(t.Context()).Err() == nil })
	p.becomes("bob", want...)
	if got := p.counted("activityfeed_messages_poisoned_total"); got != 0 {
		t.Errorf("%v events were poisoned", got)
	}
}

// A subscription that cannot begin, or ends by itself, is an error of Run.
func TestRunEndsWithItsSubscriptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		sub  message.Subscriber
	}{{"cannot begin", deadSubscriber{fail: true}}, {"ends", deadSubscriber{}}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := New(Config{CloseTimeout: 100 * time.Millisecond}, Deps{
				Log: testenv.Logger(t), Redis: miniRedis(t), Subscriber: tt.sub, RetrySubscriber: tt.sub, AccountSubscriber: tt.sub, Publisher: nowhere{},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := n.Run(ctx); !errors.Is(err, middleware.ErrEnded) || ctx.Err() != nil {
				t.Errorf("Run = %v, want %v", err, middleware.ErrEnded)
			}
		})
	}
}

type deadSubscriber struct{ fail bool }

func (s deadSubscriber) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	if s.fail {
		return nil, errors.New("no broker")
	}
	messages := make(chan *message.Message)
	close(messages)
	return messages, nil
}

func (deadSubscriber) Close() error { return nil }

type nowhere struct{}

func (nowhere) Publish(string, ...*message.Message) error { return errors.New("nowhere") }
func (nowhere) Close() error                              { return nil }
