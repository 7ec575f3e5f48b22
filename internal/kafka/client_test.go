package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// deadBroker is an address at which nobody listens. A port that was free a moment ago
// may be another test's broker by now.
var deadBroker = []string{"127.0.0.1:1"}

func TestPublisherGivesUpInTime(t *testing.T) {
	t.Parallel()
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: deadBroker, Timeout: 300 * time.Millisecond}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	msg := message.NewMessage("1", nil)
	msg.SetContext(over) // honoured by nobody
	begin := time.Now()
	err = pub.Publish("topic", msg)
	if got := fault.KindOf(err); got != fault.Unavailable {
		t.Errorf("Publish without a broker = %v of kind %d, want an outage", err, got)
	}
	// The timeout is 10 s where none is set.
	if took := time.Since(begin); took < 250*time.Millisecond || took > 9*time.Second {
		t.Errorf("Publish took %v, want about its timeout", took)
	}
	if err := pub.PublishContext(over, "topic", msg); !errors.Is(err, context.Canceled) {
		t.Errorf("PublishContext of an ended context = %v, want %v", err, context.Canceled)
	}
}

// A caller that goes away takes nobody's messages along.
func TestCancelledPublishHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	var cable cable
	cfg := kafka.PublisherConfig{Brokers: c.brokers}.WithOptions(kgo.Dialer(cable.Dial))
	pub, err := kafka.NewPublisher(cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	if err := pub.Publish(topic, message.NewMessage("0", nil)); err != nil {
		t.Fatal(err)
	}
	cable.cut()
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- pub.PublishContext(ctx, topic, message.NewMessage("1", nil)) }()
	sleep(t.Context(), 50*time.Millisecond)
	go func() { second <- pub.Publish(topic, message.NewMessage("2", nil)) }()
	sleep(t.Context(), 50*time.Millisecond)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call = %v, want %v", err, context.Canceled)
	}
	cable.mended()
	if err := <-second; err != nil {
		t.Errorf("the other call = %v, want nil", err)
	}
}

func TestPublishedMessagesComeBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: c.brokers}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	want := message.NewMessage("id-1", []byte("payload"))
	want.Metadata = message.Metadata{record.KeyMetadata: "ann", "ce_type": "x"}
	if err := pub.Publish(topic, want); err != nil {
		t.Fatal(err)
	}
	r := c.read(t.Context(), t, quick("back-"+topic), topic)
	got := r.next()
	if !got.Equals(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	o := record.OriginOf(got.Context())
	if o.Topic != topic || o.TopicID == "" || o.Partition != 0 || o.Offset != 0 || o.LastOffset != 0 || o.Attempt != 1 || time.Since(o.Time) > time.Minute {
		t.Errorf("its origin is %+v", o)
	}
	got.Ack()
	for range 2 {
		if err := pub.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := pub.Publish(topic, want); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Publish after Close = %v, want an outage", err)
	}
}

func TestOversizedMessageIsNoOutage(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: c.brokers}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	err = pub.Publish(topic, message.NewMessage("1", make([]byte, 2<<20)))
	if got := fault.KindOf(err); got != fault.Permanent {
		t.Errorf("Publish of 2 MiB = %v of kind %d, want a permanent fault", err, got)
	}
}

func TestSubscriberWithoutBrokerCloses(t *testing.T) {
	t.Parallel()
	cfg := quick("nobody")
	cfg.Brokers = deadBroker
	sub, err := kafka.NewSubscriber(cfg, testLog(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := sub.Subscribe(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := sub.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, ok := <-messages; ok {
		t.Error("a message came from nowhere")
	}
}

func TestConfigFaultsAreJoined(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewSubscriber(kafka.SubscriberConfig{MaxInFlight: -1, Drain: -1}, testLog(t), nil)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("NewSubscriber = %v, want three faults", err)
	}
}

func TestSubscribersShareARegistry(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1")
	reg := prometheus.NewRegistry()
	for _, group := range []string{"one", "two", "two", ""} {
		cfg := quick(group)
		if group != "" {
			cfg.Group += "-" + topic
		}
		cfg.Brokers = c.brokers
		sub, err := kafka.NewSubscriber(cfg, testLog(t), reg)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		if _, err := sub.Subscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

// One cause is told once, whatever the number of topics.
func TestAdminSaysACauseOnce(t *testing.T) {
	t.Parallel()
	brokers := deadBroker
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	err = admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{"a": {}, "b": {}, "c": {}})
	if want := "make topic a, b, c: unable to dial: dial tcp " + brokers[0] + ": connect: connection refused"; err == nil || err.Error() != want {
		t.Errorf("EnsureTopics says %v, want %s", err, want)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	admin, err := kafka.NewAdmin(c.brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := admin.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	topic := "admin-" + c.topic(t, c.client(t), 1)
	for range 2 { // the second time it exists
		err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{topic: {Partitions: 1, Config: map[string]string{"retention.ms": "-1"}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.produce(t, topic, "1", "2", "3")
	end, err := admin.EndOffsets(ctx, topic)
	if err != nil || len(end) != 1 || end[0] != 3 {
		t.Errorf("EndOffsets = %v, %v, want 3", end, err)
	}
	group := "lag-" + topic
	lag := func(want int64) {
		t.Helper()
		if got, err := admin.Lag(ctx, group, topic); err != nil || got != want {
			t.Errorf("Lag = %d, %v, want %d", got, err, want)
		}
	}
	lag(3) // of a group that does not exist
	r := c.read(t.Context(), t, quick(group), topic)
	r.next().Ack()
	c.commits(t, group, topic, 1)
	lag(2)
	id, err := admin.TopicID(ctx, topic)
	if other, err2 := admin.TopicID(ctx, c.topic(t, c.client(t), 1)); err != nil || err2 != nil || len(id) != 32 || other == id {
		t.Errorf("ids of two topics = %q, %v and %q, %v", id, err, other, err2)
	}
	if again, err := admin.TopicID(ctx, topic); err != nil || again != id {
		t.Errorf("TopicID = %q, %v, want %q again", again, err, id)
	}
	if _, err := admin.TopicID(ctx, "no-such-topic"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("TopicID of no topic = %v, want an outage", err)
	}
	if _, err := admin.EndOffsets(ctx, "no-such-topic"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("EndOffsets of no topic = %v, want an outage", err)
	}
}

// A cluster that has just begun has no coordinator for seconds.
func TestLagWaitsForACoordinator(t *testing.T) {
	t.Parallel()
	c := newFakeCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2", "3")
	admin, err := kafka.NewAdmin(c.brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	const refusals = 3 // the client alone gives up at the first
	var asked atomic.Int32
	c.fake.ControlKey(int16(kmsg.FindCoordinator), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		if asked.Add(1) > refusals {
			return nil, nil, false
		}
		find := req.(*kmsg.FindCoordinatorRequest)
		resp := find.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		for _, key := range find.CoordinatorKeys {
			coordinator := kmsg.NewFindCoordinatorResponseCoordinator()
			coordinator.Key, coordinator.ErrorCode = key, kerr.CoordinatorNotAvailable.Code
			resp.Coordinators = append(resp.Coordinators, coordinator)
		}
		return resp, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if lag, err := admin.Lag(ctx, "new-group", topic); err != nil || lag != 3 {
		t.Errorf("Lag = %d, %v, want 3", lag, err)
	}
	if n := asked.Load(); n <= refusals {
		t.Errorf("the coordinator was asked for %d times, want more than the %d refusals", n, refusals)
	}
}

//nolint:tparallel // one tail reads what the other's test has written
func TestTail(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	client := c.client(t)
	topic := c.topic(t, client, 4)
	write := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			r := &kgo.Record{Topic: topic, Partition: int32(i % 3), Value: fmt.Append(nil, i)} // one stays empty
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, 30)
	for _, tt := range []struct {
		name string
		from kafka.Start
		want int
	}{
		{"from the oldest", kafka.StartOldest, 60},
		{"from the newest", kafka.StartNewest, 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tail := kafka.NewTail(kafka.TailConfig{Brokers: c.brokers, Topic: topic, From: tt.from}, testLog(t))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			waiting, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			var mu sync.Mutex
			got := make(map[int32][]int64)
			ended := make(chan error, 1)
			go func() {
				ended <- tail.Run(ctx, func(msg *message.Message) error {
					mu.Lock()
					defer mu.Unlock()
					o := record.OriginOf(msg.Context())
					got[o.Partition] = append(got[o.Partition], o.Offset)
					return nil
				})
			}()
			if err := tail.CaughtUp(waiting); err != nil { // also before Run runs
				t.Fatal(err)
			}
			write(0, 30)
			if err := tail.CaughtUp(waiting); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for partition, offsets := range got {
				if !slices.IsSorted(offsets) {
					t.Errorf("partition %d came as %v", partition, offsets)
				}
				n += len(offsets)
			}
			if n != tt.want {
				t.Errorf("CaughtUp returned after %d records, want %d", n, tt.want)
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
		})
	}
	failing := kafka.NewTail(kafka.TailConfig{Brokers: c.brokers, Topic: topic}, testLog(t))
	broken := errors.New("broken")
	if err := failing.Run(t.Context(), func(*message.Message) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Run = %v, want %v", err, broken)
	}
}

// Somebody else's port takes the connection and says nothing.
func TestPingKeepsToItsDeadline(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	admin, err := kafka.NewAdmin([]string{l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := admin.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping = %v, want that the time is over", err)
	}
	admin.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Ping and Close took %v", took)
	}
}
