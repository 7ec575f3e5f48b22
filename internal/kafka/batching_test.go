package kafka_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

// run is what a test looks at in a batch.
type run struct {
	first, last int64
	values      []string
}

func runOf(t *testing.T, msg *message.Message) run {
	t.Helper()
	o := record.OriginOf(msg.Context())
	r := run{first: o.Offset, last: o.LastOffset}
	for rec, err := range record.Batch(msg.Payload) {
		if err != nil {
			t.Fatal(err)
		}
		r.values = append(r.values, fmt.Sprintf("%d:%s", rec.Offset, rec.Value))
	}
	return r
}

// values are what produce writes as the records of these offsets.
func values(first, last int64) (pairs, want []string) {
	for offset := first; offset <= last; offset++ {
		pairs = append(pairs, fmt.Sprintf("k%d=v", offset%3))
		want = append(want, fmt.Sprintf("%d:k%d=v", offset, offset%3))
	}
	return pairs, want
}

func (r *reader) wantRun(first, last int64) *message.Message {
	r.t.Helper()
	msg := r.next()
	got := runOf(r.t, msg)
	_, want := values(first, last)
	if got.first != first || got.last != last || !slices.Equal(got.values, want) {
		r.t.Fatalf("got the batch %d-%d with %v, want %d-%d with %v", got.first, got.last, got.values, first, last, want)
	}
	return msg
}

func batches(group string, limit int, wait time.Duration) kafka.SubscriberConfig {
	cfg := quick(group)
	cfg.Batch = &kafka.BatchConfig{MaxRecords: limit, MaxWait: wait}
	return cfg
}

func TestBatchLimits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	pairs, _ := values(0, 24)
	c.produce(t, topic, pairs...)
	cfg := batches("limits-"+topic, 10, 300*time.Millisecond)
	r := c.read(t.Context(), t, cfg, topic)

	first := r.wantRun(0, 9)
	r.none() // one batch of a partition at a time
	id, nacked := first.UUID, slices.Clone(first.Payload)
	first.Nack()
	again := r.wantRun(0, 9)
	if o := record.OriginOf(again.Context()); o.Attempt != 2 || again.UUID != id {
		t.Errorf("redelivered as %s of attempt %d, want %s of attempt 2", again.UUID, o.Attempt, id)
	}
	again.Ack()
	r.wantRun(10, 19).Ack()
	r.wantRun(20, 24).Ack() // after MaxWait
	c.commits(t, cfg.Group, topic, 25)
	if !bytes.Equal(first.Payload, nacked) {
		t.Error("the payload of a message that was not acknowledged was used again")
	}
}

// The client unpacks compressed records in a form of their own (flat.go).
func TestBatchOfCompressedRecords(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	var pairs, want []string
	for offset := range 20 {
		pairs = append(pairs, fmt.Sprintf("k%d=%s", offset%3, strings.Repeat("long", 100)))
		want = append(want, fmt.Sprintf("%d:%s", offset, pairs[offset]))
	}
	c.produce(t, topic, pairs...)
	r := c.read(t.Context(), t, batches("compressed-"+topic, 20, 300*time.Millisecond), topic)
	msg := r.next()
	if got := runOf(t, msg); !slices.Equal(got.values, want) {
		t.Errorf("got %v, want %v", got.values, want)
	}
	for rec, err := range record.Batch(msg.Payload) {
		if err != nil || string(rec.Key) != fmt.Sprintf("k%d", rec.Offset%3) || len(rec.Headers) > 0 {
			t.Errorf("record %d has the key %q and %d headers (%v)", rec.Offset, rec.Key, len(rec.Headers), err)
		}
	}
	msg.Ack()
}

func TestBatchOfBytes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	pairs, _ := values(0, 9) // keys of 2 bytes, values of 4
	c.produce(t, topic, pairs...)
	cfg := batches("bytes-"+topic, 1000, 300*time.Millisecond)
	cfg.Batch.MaxBytes = 20
	r := c.read(t.Context(), t, cfg, topic)
	for _, first := range []int64{0, 3, 6} {
		r.wantRun(first, first+2).Ack()
	}
	r.wantRun(9, 9).Ack()
}

func TestBatchIsFormedAgainAfterACrash(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		stop func(c cluster, r *reader, group string)
	}{
		{"killed", func(c cluster, r *reader, group string) { r.cable.cut(); c.evict(r.t, group) }},
		{"closed with the batch unsettled", func(_ cluster, r *reader, _ string) { _ = r.sub.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			topic := c.topic(t, c.client(t), 1)
			pairs, _ := values(0, 9)
			c.produce(t, topic, pairs...)
			cfg := batches("again-"+topic, 100, 50*time.Millisecond)
			cfg.Drain = 100 * time.Millisecond
			r := c.read(t.Context(), t, cfg, topic)
			r.wantRun(0, 9)
			pairs, _ = values(10, 15)
			c.produce(t, topic, pairs...)
			tt.stop(c, r, cfg.Group)

			// Other limits, the same bounds.
			cfg.Batch = &kafka.BatchConfig{MaxRecords: 4, MaxWait: 50 * time.Millisecond}
			heir := c.read(t.Context(), t, cfg, topic)
			heir.wantRun(0, 9).Ack()
			heir.wantRun(10, 13).Ack()
			heir.wantRun(14, 15).Ack()
			c.commits(t, cfg.Group, topic, 16)
		})
	}
}

// What retention took from a batch is gone, but its bounds stay.
func TestBatchIsFormedAgainFromWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before int64 // the oldest offset that is left
		want   run
	}{
		{"its head is gone", 4, run{0, 5, []string{"4:k1=v", "5:k2=v"}}},
		{"all of it is gone", 6, run{6, 6, []string{"6:k0=v"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			topic := c.topic(t, c.client(t), 1)
			pairs, _ := values(0, 5)
			c.produce(t, topic, pairs...)
			cfg := batches("left-"+topic, 100, 50*time.Millisecond)
			cfg.Drain = 100 * time.Millisecond
			r := c.read(t.Context(), t, cfg, topic)
			r.wantRun(0, 5)
			_ = r.sub.Close()
			pairs, _ = values(6, 6)
			c.produce(t, topic, pairs...)
			var before kadm.Offsets
			before.AddOffset(topic, 0, tt.before, -1)
			if _, err := kadm.NewClient(c.client(t)).DeleteRecords(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			heir := c.read(t.Context(), t, cfg, topic)
			msg := heir.next()
			if got := runOf(t, msg); got.first != tt.want.first || got.last != tt.want.last || !slices.Equal(got.values, tt.want.values) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			msg.Ack()
			if tt.want.last == 5 {
				heir.wantRun(6, 6).Ack()
			}
			c.commits(t, cfg.Group, topic, 7)
		})
	}
}

func TestBatchesWithoutGroup(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	topic := c.topic(t, c.client(t), 1)
	pairs, _ := values(0, 4)
	c.produce(t, topic, pairs...)
	r := c.read(t.Context(), t, batches("", 3, 50*time.Millisecond), topic)
	r.wantRun(0, 2).Ack()
	r.wantRun(3, 4).Ack()
}
