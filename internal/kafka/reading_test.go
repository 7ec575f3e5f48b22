package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// reader is a subscriber whose messages the test takes by hand.
type reader struct {
	t        *testing.T
	sub      *kafka.Subscriber
	messages <-chan *message.Message
	cancel   context.CancelFunc
	reg      *prometheus.Registry
	cable    *cable
}

// quick is a configuration whose pauses are short enough for a test. What others are
// given up after is long: a machine that stands still for some seconds ends nothing.
// A test that kills a member has it evicted.
func quick(group string) kafka.SubscriberConfig {
	return kafka.SubscriberConfig{
		Group:          group,
		NackBackoff:    5 * time.Millisecond,
		MaxNackBackoff: 20 * time.Millisecond,
		Drain:          20 * time.Second,
		Session:        30 * time.Second,
		Heartbeat:      100 * time.Millisecond,
		Rebalance:      24 * time.Second, // a third of it is for messages in flight
		CommitInterval: 20 * time.Millisecond,
	}
}

func (c cluster) read(ctx context.Context, t *testing.T, cfg kafka.SubscriberConfig, topic string) *reader {
	t.Helper()
	r := &reader{t: t, reg: prometheus.NewRegistry(), cable: new(cable)}
	cfg.Brokers = c.brokers
	var err error
	if r.sub, err = kafka.NewSubscriber(cfg.WithOptions(kgo.Dialer(r.cable.Dial)), testLog(t), r.reg); err != nil {
		t.Fatal(err)
	}
	ctx, r.cancel = context.WithCancel(ctx)
	if r.messages, err = r.sub.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.sub.Close()
		r.cancel()
	})
	return r
}

// next returns the next message.
func (r *reader) next() *message.Message {
	r.t.Helper()
	select {
	case msg, ok := <-r.messages:
		if !ok {
			r.t.Fatal("the channel was closed, want a message")
		}
		return msg
	case <-time.After(patience):
		r.t.Fatal("no message came")
	}
	return nil
}

// none fails if a message comes within a moment.
func (r *reader) none() {
	r.t.Helper()
	if msg := r.soon(); msg != nil {
		r.t.Fatalf("got %s of attempt %d, want nothing", record.OriginOf(msg.Context()), record.OriginOf(msg.Context()).Attempt)
	}
}

// soon returns a message that comes within a moment, nil if none does.
func (r *reader) soon() *message.Message {
	select {
	case msg := <-r.messages:
		return msg
	case <-time.After(150 * time.Millisecond):
		return nil
	}
}

// produce writes values to partition 0 with a key each ("key=value"; "value" has
// no key).
func (c cluster) produce(t *testing.T, topic string, pairs ...string) {
	t.Helper()
	client := c.client(t)
	for _, pair := range pairs {
		r := &kgo.Record{Topic: topic, Value: []byte(pair)}
		if key, _, ok := strings.Cut(pair, "="); ok {
			r.Key = []byte(key)
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// commits waits until the group has committed an offset of partition 0.
func (c cluster) commits(t *testing.T, group, topic string, want int64) {
	t.Helper()
	c.commitsOf(t, group, topic, 0, want)
}

func (c cluster) commitsOf(t *testing.T, group, topic string, partition int32, want int64) {
	t.Helper()
	admin := c.admin(t)
	var got int64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		committed, err := admin.Committed(t.Context(), group, topic)
		if at, ok := committed[partition]; err == nil && ok {
			if got = at; got == want {
				return
			}
		}
		sleep(t.Context(), 10*time.Millisecond)
	}
	t.Fatalf("the group committed %d, want %d", got, want)
}

// settled returns what the group has committed of partition 0 after some commit
// intervals have passed; -1 if nothing.
func (c cluster) settled(t *testing.T, group, topic string) int64 {
	t.Helper()
	sleep(t.Context(), 200*time.Millisecond)
	committed, err := c.admin(t).Committed(t.Context(), group, topic)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := committed[0]; ok {
		return at
	}
	return -1
}

// metric returns a metric's value, summed over its labels.
func (r *reader) metric(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == "activityfeed_kafka_"+name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// waitMetric waits until a metric has a value.
func (r *reader) waitMetric(name string, want float64) {
	r.t.Helper()
	var got float64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if got = r.metric(name); got == want {
			return
		}
		sleep(r.t.Context(), 5*time.Millisecond)
	}
	r.t.Fatalf("%s = %v, want %v", name, got, want)
}

func TestKeysWaitForEachOtherAndNobodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "a=1", "a=2", "b=1", "none", "=1", "=2")
	r := c.read(t.Context(), t, quick("keys-"+topic), topic)

	out := make(map[string]*message.Message)
	for range 4 {
		msg := r.next()
		out[string(msg.Payload)] = msg
	}
	if got, want := slices.Sorted(maps.Keys(out)), []string{"=1", "a=1", "b=1", "none"}; !slices.Equal(got, want) {
		t.Fatalf("first came %v, want %v", got, want)
	}
	r.none()
	out["a=1"].Ack()
	second := r.next()
	if got := string(second.Payload); got != "a=2" {
		t.Fatalf("after a=1 came %s, want a=2", got)
	}
	// Finished out of order: nothing is committed past "b=1", which is third.
	second.Ack()
	out["none"].Ack()
	c.commits(t, "keys-"+topic, topic, 2)
	out["b=1"].Ack()
	c.commits(t, "keys-"+topic, topic, 4)
	out["=1"].Ack()
	r.next().Ack()
	c.commits(t, "keys-"+topic, topic, 6)
}

func TestNackHoldsUpItsLaneAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "a=1", "a=2", "b=1")
	r := c.read(t.Context(), t, quick("nack-"+topic), topic)
	for attempt, acked := 1, 0; acked < 3; {
		msg := r.next()
		o := record.OriginOf(msg.Context())
		if got := string(msg.Payload); got != "a=1" || attempt == 4 {
			if got == "a=2" && attempt < 4 {
				t.Fatal("a=2 came before a=1 was done")
			}
			msg.Ack()
			acked++
			continue
		}
		if o.Attempt != attempt {
			t.Errorf("attempt %d of a=1 says it is attempt %d", attempt, o.Attempt)
		}
		if msg.Metadata["touched"] != "" {
			t.Error("a redelivered message has what the handler did to the one before")
		}
		msg.Metadata["touched"] = "yes"
		attempt++
		msg.Nack()
	}
	c.commits(t, "nack-"+topic, topic, 3)
	if got := r.metric("nacks_total"); got != 3 {
		t.Errorf("nacks_total = %v, want 3", got)
	}
}

func TestFullWindowIsNotPolled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	var pairs []string
	for i := range 100 {
		pairs = append(pairs, fmt.Sprint(i))
	}
	c.produce(t, topic, pairs...)
	cfg := quick("full-" + topic)
	cfg.MaxInFlight, cfg.MaxTracked = 5, 20
	r := c.read(t.Context(), t, cfg, topic)
	var out []*message.Message
	for range 5 {
		out = append(out, r.next())
	}
	r.waitMetric("tracked", 20) // the next polls may take their time
	r.none()
	if in, tracked := r.metric("in_flight"), r.metric("tracked"); in != 5 || tracked != 20 {
		t.Errorf("in flight %v, tracked %v; want 5, 20", in, tracked)
	}
	for i := range 100 {
		out[i].Ack()
		if len(out) < 100 {
			out = append(out, r.next())
		}
	}
	c.commits(t, "full-"+topic, topic, 100)
}

func TestStuckHeadStopsOnlyItsPartition(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	client := c.client(t)
	topic := c.topic(t, client, 2)
	var records []*kgo.Record
	for i := range 400 {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: fmt.Append(nil, i)})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cfg := quick("stuck-" + topic)
	cfg.MaxTracked = 16
	r := c.read(t.Context(), t, cfg, topic)
	var stuck *message.Message
	seen := make(map[int32]int)
	for len(seen) < 2 || seen[1] < 200 {
		msg := r.next()
		o := record.OriginOf(msg.Context())
		seen[o.Partition]++
		if o.Partition == 0 && o.Offset == 0 {
			stuck = msg
			continue
		}
		msg.Ack()
	}
	// The other partition came to its end; this one stops reading at its limit, some
	// records of one poll above it, and what it has read may still be on its way.
	r.waitMetric("paused_partitions", 1)
	for msg := r.soon(); msg != nil; msg = r.soon() {
		seen[record.OriginOf(msg.Context()).Partition]++
		msg.Ack()
	}
	if n := seen[0]; n < 16 || n > 64 || seen[1] != 200 {
		t.Errorf("%d records of the stuck partition came and %d of the other, want about 32 and 200", n, seen[1])
	}
	if got := c.settled(t, "stuck-"+topic, topic); got > 0 {
		t.Errorf("committed %d past the stuck record 0", got)
	}
	if got := r.metric("oldest_unfinished_seconds"); got <= 0 {
		t.Errorf("oldest_unfinished_seconds = %v", got)
	}
	stuck.Ack()
	for seen[0] < 200 {
		r.next().Ack()
		seen[0]++
	}
	c.commits(t, "stuck-"+topic, topic, 200)
}

func TestMessageContextOutlivesTheSubscription(t *testing.T) {
	t.Parallel()
	type key struct{}
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "a=1", "b=1")
	cfg := quick("ctx-" + topic)
	cfg.Drain = 8 * time.Second // is waited for, and must not be over before the first is settled
	r := c.read(context.WithValue(t.Context(), key{}, "kept"), t, cfg, topic)
	msg, deaf := r.next(), r.next()
	if msg.Context().Value(key{}) != "kept" {
		t.Error("the values of the subscription's context are lost")
	}
	r.cancel()
	r.none()
	if err := msg.Context().Err(); err != nil {
		t.Fatalf("the message's context ended with the subscription's: %v", err)
	}
	msg.Ack()
	<-msg.Context().Done() // settled
	// The other one is never settled: its context ends when the time to drain is over.
	<-deaf.Context().Done()
	if got := context.Cause(deaf.Context()); !errors.Is(got, kafka.ErrClosing) {
		t.Errorf("the cause is %v, want %v", got, kafka.ErrClosing)
	}
	if _, ok := <-r.messages; ok {
		t.Error("a message came after the end")
	}
	c.commits(t, "ctx-"+topic, topic, record.OriginOf(deaf.Context()).Offset)
}

func TestSubscribeAgainWithTheSameSubscriber(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2")
	r := c.read(t.Context(), t, quick("again-"+topic), topic)
	r.next().Ack()
	r.next().Ack()
	r.cancel()
	for range r.messages {
		t.Error("a message came after the end")
	}
	c.produce(t, topic, "3")
	messages, err := r.sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	msg := <-messages
	if got := string(msg.Payload); got != "3" {
		t.Errorf("the second subscription begins with %s, want 3", got)
	}
	msg.Ack()
	if err := r.sub.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sub.Subscribe(t.Context(), topic); err == nil {
		t.Error("Subscribe after Close gave no error")
	}
}

func TestWithoutGroupEveryoneReadsEverything(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "old")
	all := c.read(t.Context(), t, quick(""), topic)
	fresh := quick("")
	fresh.From = kafka.StartNewest
	latest := c.read(t.Context(), t, fresh, topic)
	c.produce(t, topic, "new")
	for _, tt := range []struct {
		name string
		r    *reader
		want []string
	}{
		{"from the oldest", all, []string{"old", "new"}},
		{"from the newest", latest, []string{"new"}},
	} {
		for _, want := range tt.want {
			msg := tt.r.next()
			if got := string(msg.Payload); got != want {
				t.Errorf("%s: got %s, want %s", tt.name, got, want)
			}
			msg.Ack()
		}
	}
}
