package kafka_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// twoPartitions makes a topic with n records in each of two partitions.
func (c cluster) twoPartitions(t *testing.T, n int) (topic string) {
	t.Helper()
	client := c.client(t)
	topic = c.topic(t, client, 2)
	for range n {
		for partition := range int32(2) {
			r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x")}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return topic
}

// byPartition takes one message of each partition.
func (r *reader) byPartition(n int) map[int32]*message.Message {
	r.t.Helper()
	got := make(map[int32]*message.Message)
	for len(got) < n {
		msg := r.next()
		got[record.OriginOf(msg.Context()).Partition] = msg
	}
	return got
}

func TestLateAckChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.twoPartitions(t, 1)
	cfg := quick("late-" + topic)
	cfg.Drain = 200 * time.Millisecond
	old := c.read(t.Context(), t, cfg, topic)
	held := old.byPartition(2)

	// Another member gets one of the partitions, and the record that is still out.
	other := c.read(t.Context(), t, cfg, topic)
	again := other.next()
	moved := record.OriginOf(again.Context()).Partition
	late := held[moved]
	<-late.Context().Done()
	if got := context.Cause(late.Context()); !errors.Is(got, kafka.ErrRevoked) {
		t.Errorf("the cause is %v, want %v", got, kafka.ErrRevoked)
	}
	late.Ack()
	old.waitMetric("late_acks_total", 1)
	sleep(t.Context(), 200*time.Millisecond) // some commit intervals
	committed, err := c.admin(t).Committed(t.Context(), cfg.Group, topic)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := committed[moved]; ok && at > 0 {
		t.Errorf("the late acknowledgement committed %d", at)
	}
	again.Ack()
	c.commitsOf(t, cfg.Group, topic, moved, 1)
	held[1-moved].Ack() // this one stayed
	c.commitsOf(t, cfg.Group, topic, 1-moved, 1)
}

func TestRebalanceWaitsForMessagesInFlight(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.twoPartitions(t, 1)
	cfg := quick("drain-" + topic)
	old := c.read(t.Context(), t, cfg, topic)
	held := old.byPartition(2)
	other := c.read(t.Context(), t, cfg, topic)
	// It is not given what is still being worked on, though the group asks for it
	// with the next heartbeat.
	for range 6 {
		other.none()
	}
	for _, msg := range held {
		if err := msg.Context().Err(); err != nil {
			t.Errorf("a message in flight lost its context: %v", err)
		}
		msg.Ack()
	}
	// Both are committed, so the new owner begins behind them.
	for partition := range int32(2) {
		c.commitsOf(t, cfg.Group, topic, partition, 1)
	}
	other.none()
}

func TestCloseWaitsForMessagesInFlight(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2")
	cfg := quick("close-" + topic)
	cfg.CommitInterval = time.Hour // only the last commit is left
	r := c.read(t.Context(), t, cfg, topic)
	first, second := r.next(), r.next()
	closed := make(chan error, 1)
	go func() { closed <- r.sub.Close() }()
	select {
	case <-closed:
		t.Fatal("Close returned with messages in flight")
	case <-time.After(100 * time.Millisecond):
	}
	first.Ack()
	second.Ack()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	select {
	case _, ok := <-r.messages:
		if ok {
			t.Error("a message came after Close")
		}
	default:
		t.Error("the channel is open after Close")
	}
	if got := c.settled(t, cfg.Group, topic); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
}

func TestKilledMembersWorkIsDoneByOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2", "3", "4")
	cfg := quick("kill-" + topic)
	victim := c.read(t.Context(), t, cfg, topic)
	victim.next().Ack()
	out := []*message.Message{victim.next(), victim.next(), victim.next()}
	out[1].Ack() // finished behind an unfinished one: has to come again
	c.commits(t, cfg.Group, topic, 1)
	victim.cable.cut()
	c.evict(t, cfg.Group)

	heir := c.read(t.Context(), t, cfg, topic)
	var got []string
	for range 3 {
		msg := heir.next()
		got = append(got, string(msg.Payload))
		msg.Ack()
	}
	slices.Sort(got)
	if want := []string{"2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("after the kill came %v, want %v", got, want)
	}
	c.commits(t, cfg.Group, topic, 4)
	// The victim was only cut off, and comes back: it must not take anything back.
	victim.cable.mended()
	for _, msg := range out {
		msg.Ack()
	}
	c.produce(t, topic, "5")
	select {
	case msg := <-victim.messages:
		msg.Ack()
	case msg := <-heir.messages:
		msg.Ack()
	case <-time.After(patience):
		t.Fatal("nothing comes after the member is back")
	}
	c.commits(t, cfg.Group, topic, 5)
}

func TestLogThatBeganAnewIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2", "3")
	cfg := quick("anew-" + topic)
	// As after a log directory that was lost: the group is at 100, the log ends at 3.
	adm := kadm.NewClient(c.client(t))
	var ahead kadm.Offsets
	ahead.AddOffset(topic, 0, 100, -1)
	if err := adm.CommitAllOffsets(t.Context(), cfg.Group, ahead); err != nil {
		t.Fatal(err)
	}
	r := c.read(t.Context(), t, cfg, topic)
	for _, want := range []string{"1", "2", "3"} {
		msg := r.next()
		if got := string(msg.Payload); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		msg.Ack()
	}
	c.commits(t, cfg.Group, topic, 3)
	if got := r.metric("resets_total"); got != 1 {
		t.Errorf("resets_total = %v, want 1", got)
	}
}

func TestRetentionThatWasFasterIsNoReset(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	c.produce(t, topic, "1", "2", "3", "4")
	cfg := quick("retention-" + topic)
	adm := kadm.NewClient(c.client(t))
	var at, before kadm.Offsets
	at.AddOffset(topic, 0, 1, -1)
	before.AddOffset(topic, 0, 3, -1)
	if err := adm.CommitAllOffsets(t.Context(), cfg.Group, at); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	r := c.read(t.Context(), t, cfg, topic)
	msg := r.next()
	if got := string(msg.Payload); got != "4" {
		t.Errorf("got %s, want 4", got)
	}
	msg.Ack()
	c.commits(t, cfg.Group, topic, 4)
	if got := r.metric("resets_total"); got != 0 {
		t.Errorf("resets_total = %v, want 0", got)
	}
}
