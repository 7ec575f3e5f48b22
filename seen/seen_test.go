package seen_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
	"activityfeed/seen"
)

var now = time.Date(2026, 11, 22, 10, 20, 30, 456e6, time.UTC)

type publisher interface {
	PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error
}

// downPublisher is a log that does not answer.
type downPublisher struct{}

func (downPublisher) PublishContext(context.Context, string, ...*message.Message) error {
	return errors.New("dial tcp 10.0.0.7:9092: connection refused")
}

func newSeen(t *testing.T, pub publisher) *seen.Seen {
	t.Helper()
	ids, err := event.NewIDs(0, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	s, err := seen.New(seen.Config{}, seen.Deps{Publisher: pub, IDs: ids, Source: "node-under-test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAMarkIsOneFact(t *testing.T) {
	t.Parallel()
	brokers, log := testenv.Kafka(t), testenv.Logger(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 4}}); err != nil {
		t.Fatal(err)
	}
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	post := event.FirstID(now)
	gone, cancel := context.WithCancel(t.Context())
	cancel() // a caller who hung up
	if err := newSeen(t, pub).SawFeed(gone, "bob", post); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got event.Event
	tail := kafka.NewTail(kafka.TailConfig{Brokers: brokers, Topic: event.Topic}, log)
	err = tail.Run(ctx, func(msg *message.Message) (err error) {
		cancel()
		got, err = event.Decode(msg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := event.Event{ID: got.ID, Time: got.ID.Time(), Source: "node-under-test", Data: &pb.UserSawFeed{UserId: "bob", PostId: post.String()}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestSawFeedFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		user string
		kind fault.Kind
	}{
		{"no user id", "b ob", fault.InvalidArgument},
		{"log down", "bob", fault.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := newSeen(t, downPublisher{}).SawFeed(t.Context(), tt.user, event.FirstID(now)); fault.KindOf(err) != tt.kind {
				t.Errorf("SawFeed = %v, want kind %d", err, tt.kind)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  seen.Config
		deps seen.Deps
	}{
		{"nothing", seen.Config{}, seen.Deps{}},
		{"negative timeout", seen.Config{PublishTimeout: -1}, seen.Deps{Publisher: downPublisher{}, IDs: new(event.IDs), Source: "x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := seen.New(tt.cfg, tt.deps); err == nil {
				t.Error("New succeeds")
			}
		})
	}
}
