package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
)

// A Tail with Since reads nothing older, and CaughtUp does not wait for it.
func TestTailSince(t *testing.T) {
	t.Parallel()
	brokers, log := testenv.Kafka(t), testenv.Logger(t)
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{"since": {Partitions: 2}}); err != nil {
		t.Fatal(err)
	}
	publish := func(payload string) {
		t.Helper()
		if err := publisher.PublishContext(t.Context(), "since", message.NewMessage(payload, []byte(payload))); err != nil {
			t.Fatal(err)
		}
	}
	publish("old")
	// The broker's clock counts milliseconds.
	since := time.Now().Add(time.Millisecond)
	for !time.Now().Truncate(time.Millisecond).After(since) {
		<-time.After(time.Millisecond)
	}
	for _, tt := range []struct {
		name string
		new  []string
	}{
		{"nothing new", nil},
		{"something new", []string{"new"}},
	} {
		for _, payload := range tt.new {
			publish(payload)
		}
		tail := kafka.NewTail(kafka.TailConfig{Brokers: brokers, Topic: "since", Since: since}, log)
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- tail.Run(ctx, func(msg *message.Message) error { got = append(got, string(msg.Payload)); return nil })
		}()
		limited, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := tail.CaughtUp(limited)
		cancel()
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if len(got) != len(tt.new) || (len(got) == 1 && got[0] != tt.new[0]) {
			t.Errorf("%s: read %q, want %q", tt.name, got, tt.new)
		}
	}
}
