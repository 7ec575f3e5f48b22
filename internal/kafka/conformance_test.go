package kafka_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"activityfeed/internal/kafka"
	"activityfeed/internal/record"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		key      func(*message.Message) []byte
		features tests.Features
	}{
		{"no keys", nil, tests.Features{ConsumerGroups: true, Persistent: true}},
		{"one key", func(*message.Message) []byte { return []byte{} }, tests.Features{ConsumerGroups: true, Persistent: true, GuaranteedOrder: true}},
		{"key is payload", func(m *message.Message) []byte { return m.Payload }, tests.Features{ConsumerGroups: true, Persistent: true, GuaranteedOrder: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			brokers := newCluster(t).brokers
			newPubSub := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
				pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, testLog(t))
				if err != nil {
					t.Fatal(err)
				}
				sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
					Brokers:        brokers,
					Group:          group,
					NackBackoff:    10 * time.Millisecond,
					MaxNackBackoff: 50 * time.Millisecond,
					Drain:          3 * time.Second,
					Session:        6 * time.Second,
					Heartbeat:      500 * time.Millisecond,
					Rebalance:      5 * time.Second,
					CommitInterval: 200 * time.Millisecond,
					Partitions:     8,
				}, testLog(t), nil)
				if err != nil {
					t.Fatal(err)
				}
				return keyed{pub, tt.key}, sub
			}
			tests.TestPubSub(t, tt.features,
				func(t *testing.T) (message.Publisher, message.Subscriber) { return newPubSub(t, t.Name()) },
				newPubSub)
		})
	}
}

type keyed struct {
	message.Publisher
	key func(*message.Message) []byte
}

func (k keyed) Publish(topic string, msgs ...*message.Message) error {
	if k.key != nil {
		for i, msg := range msgs {
			msgs[i] = msg.Copy()
			msgs[i].Metadata.Set(record.KeyMetadata, string(k.key(msg)))
		}
	}
	return k.Publisher.Publish(topic, msgs...)
}
