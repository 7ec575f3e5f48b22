package poison_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/kafka"
	"activityfeed/internal/middleware"
	"activityfeed/internal/poison"
	"activityfeed/internal/record"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

const service = "feed"

// bench is a broker with the topics of one service, and the tool.
type bench struct {
	brokers []string
	pub     *kafka.Publisher
	tool    *poison.Tool
}

func setup(t *testing.T) *bench {
	t.Helper()
	b := &bench{brokers: testenv.Kafka(t)}
	log := slog.New(slog.DiscardHandler)
	admin, err := kafka.NewAdmin(b.brokers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	err = admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{
		event.Topic:                {Partitions: 4},
		event.PoisonTopic(service): {Partitions: 3},
		event.RetryTopic(service):  {Partitions: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.pub, err = kafka.NewPublisher(kafka.PublisherConfig{Brokers: b.brokers}, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.pub.Close() })
	b.tool = poison.New(poison.Config{}, func(topic string) poison.Tail { return b.tail(topic) }, b.pub, log)
	return b
}

func (b *bench) tail(topic string) *kafka.Tail {
	return kafka.NewTail(kafka.TailConfig{Brokers: b.brokers, Topic: topic}, slog.New(slog.DiscardHandler))
}

// contents reads a topic whole.
func (b *bench) contents(t *testing.T, topic string) []*message.Message {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all []*message.Message
	done := make(chan error, 1)
	tail := b.tail(topic)
	go func() {
		done <- tail.Run(ctx, func(msg *message.Message) error { all = append(all, msg); return nil })
	}()
	if err := tail.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return all
}

// add writes a letter as the middleware does.
func (b *bench) add(t *testing.T, msg *message.Message, offset int64, reason string, replays int) middleware.Letter {
	t.Helper()
	l := middleware.NewLetter(msg, record.Origin{
		Topic: event.Topic, Partition: 1, Offset: offset, LastOffset: offset, Time: time.Unix(1700000000, 0).UTC(), Attempt: 2,
	})
	l.Service, l.Reason, l.Error, l.Replays = service, reason, "it is broken", replays
	l.FirstFailure = time.Unix(1700000000+offset, 0).UTC()
	if err := b.pub.Publish(event.PoisonTopic(service), l.Message()); err != nil {
		t.Fatal(err)
	}
	return l
}

func followed(t *testing.T, n int) *message.Message {
	t.Helper()
	msg, err := event.Encode(event.Event{
		ID:   event.ID(2000000000000000000 + n),
		Time: time.Unix(1700000000, 0),
		Data: &pb.UserFollowed{FollowerId: "bob", FolloweeId: "ann"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func garbage(payload string) *message.Message {
	msg := message.NewMessage("", []byte(payload))
	msg.Metadata[record.KeyMetadata] = "ann"
	return msg
}

type line struct {
	ID      string
	Reason  string
	Replays int
}

func lines(entries []poison.Entry) []line {
	all := make([]line, 0, len(entries))
	for _, e := range entries {
		all = append(all, line{e.ID, e.Reason, e.Replays})
	}
	return all
}

func (b *bench) list(t *testing.T) []line {
	t.Helper()
	entries, err := b.tool.List(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return lines(entries)
}

const (
	id1 = "2000000000000000001"
	id2 = "2000000000000000002"
	id3 = "2000000000000000003"
)

func TestList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		write func(*testing.T, *bench)
		want  []line
	}{
		{"nothing", func(*testing.T, *bench) {}, nil},
		{
			"in the order of the first failure, whatever the partition",
			func(t *testing.T, b *bench) {
				b.add(t, followed(t, 2), 9, "exhausted", 0)
				b.add(t, garbage("x"), 7, "undecodable", 0)
				b.add(t, followed(t, 1), 8, "panic", 0)
			},
			[]line{{"activity/1/7", "undecodable", 0}, {id1, "panic", 0}, {id2, "exhausted", 0}},
		},
		{
			"a repeat is one letter, the latest",
			func(t *testing.T, b *bench) {
				b.add(t, followed(t, 1), 7, "exhausted", 0)
				b.add(t, followed(t, 1), 7, "panic", 0)
			},
			[]line{{id1, "panic", 0}},
		},
		{
			"a tombstone hides it",
			func(t *testing.T, b *bench) {
				l := b.add(t, followed(t, 1), 7, "panic", 0)
				b.add(t, followed(t, 2), 8, "panic", 0)
				b.publish(t, event.PoisonTopic(service), l.Tombstone())
			},
			[]line{{id2, "panic", 0}},
		},
		{
			"a late tombstone does not hide the next generation",
			func(t *testing.T, b *bench) {
				l := b.add(t, followed(t, 1), 7, "panic", 0)
				b.add(t, followed(t, 1), 7, "invalid", 1)
				b.publish(t, event.PoisonTopic(service), l.Tombstone())
			},
			[]line{{id1, "invalid", 1}},
		},
		{
			"generations that were left behind are one entry",
			func(t *testing.T, b *bench) {
				b.add(t, followed(t, 1), 7, "invalid", 1)
				b.add(t, followed(t, 1), 7, "panic", 0)
			},
			[]line{{id1, "invalid", 1}},
		},
		{
			"records of others are left out",
			func(t *testing.T, b *bench) {
				b.publish(t, event.PoisonTopic(service), garbage("x"))
				b.add(t, followed(t, 1), 7, "panic", 0)
			},
			[]line{{id1, "panic", 0}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			tt.write(t, b)
			if diff := cmp.Diff(tt.want, b.list(t), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("List (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceThatDoesNotExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if entries, err := b.tool.List(t.Context(), "fed"); err == nil {
		t.Errorf("List of a mistyped service = %v, want an error", entries)
	}
}

func (b *bench) publish(t *testing.T, topic string, msg *message.Message) {
	t.Helper()
	if err := b.pub.Publish(topic, msg); err != nil {
		t.Fatal(err)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, followed(t, 1), 7, "panic", 0)
	b.add(t, followed(t, 2), 8, "exhausted", 0)
	b.add(t, garbage("x"), 9, "undecodable", 0)
	for _, tt := range []struct {
		name   string
		filter poison.Filter
		want   []line
		fails  fault.Kind
		says   string
	}{
		{name: "all", filter: poison.Filter{All: true}, want: []line{{id1, "panic", 0}, {id2, "exhausted", 0}, {"activity/1/9", "undecodable", 0}}},
		{name: "by id", filter: poison.Filter{IDs: []string{id2}}, want: []line{{id2, "exhausted", 0}}},
		{name: "by reason", filter: poison.Filter{Reason: "panic"}, want: []line{{id1, "panic", 0}}},
		{name: "by type", filter: poison.Filter{Type: "UserFollowed"}, want: []line{{id1, "panic", 0}, {id2, "exhausted", 0}}},
		{name: "by time", filter: poison.Filter{Before: time.Unix(1700000008, 0)}, want: []line{{id1, "panic", 0}}},
		{name: "all conditions hold", filter: poison.Filter{IDs: []string{id1}, Reason: "exhausted"}},
		{name: "an id that is gone is an error", filter: poison.Filter{IDs: []string{id1, id3}}, fails: fault.NotFound, says: "see 'activityfeed poison list " + service + "'"},
		{name: "nothing said is an error", fails: fault.InvalidArgument, says: "give ids, or --reason, --type, --older, or --all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			result, err := b.tool.Drop(t.Context(), service, tt.filter, poison.Options{DryRun: true})
			if fault.KindOf(err) != tt.fails || (err == nil) != (tt.fails == fault.Internal) {
				t.Errorf("Drop(%+v) fails with %v", tt.filter, err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Drop(%+v) fails with %v, want %q", tt.filter, err, tt.says)
			}
			if got, want := len(result.Done)+len(result.Others), 3; err == nil && got != want {
				t.Errorf("Drop(%+v) chooses and leaves %d, want %d", tt.filter, got, want)
			}
			if diff := cmp.Diff(tt.want, lines(result.Done), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Drop(%+v) (-want +got):\n%s", tt.filter, diff)
			}
		})
	}
}

func TestReplayGoesToTheRetryTopicAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	original := followed(t, 1)
	b.add(t, original, 7, "panic", 2)
	b.add(t, followed(t, 2), 8, "panic", poison.MaxReplays)
	null := message.NewMessage("", nil)
	b.add(t, null, 9, "undecodable", 0)

	dry, err := b.tool.Replay(t.Context(), service, poison.Filter{All: true}, poison.Options{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.contents(t, event.RetryTopic(service)); len(got) > 0 || len(b.list(t)) != 3 {
		t.Errorf("a dry run published %v", got)
	}
	var progress []string
	result, err := b.tool.Replay(t.Context(), service, poison.Filter{All: true}, poison.Options{
		Progress: func(done, total int) { progress = append(progress, fmt.Sprint(done, "/", total)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(dry.Done), lines(result.Done), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("dry run and replay differ:\n%s", diff)
	}
	if diff := cmp.Diff([]line{{id2, "panic", 5}}, lines(result.Refused)); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]line{{id2, "panic", 5}}, b.list(t), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("left in poison (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1/2", "2/2"}, progress); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got := b.contents(t, event.Topic); len(got) > 0 {
		t.Errorf("published to %s: %v", event.Topic, got)
	}
	retried := b.contents(t, event.RetryTopic(service))
	if len(retried) != 2 {
		t.Fatalf("%d records in the retry topic, want 2", len(retried))
	}
	for _, msg := range retried {
		want := original
		if msg.UUID == "" {
			want = null
		}
		letter := middleware.NewLetter(msg, record.Origin{})
		if !letter.Original.Equals(want) || (msg.Payload == nil) != (want.Payload == nil) {
			t.Errorf("retried %v, want %v", letter.Original, want)
		}
		if msg.UUID != "" && letter.Replays != 3 {
			t.Errorf("replays = %d, want 3", letter.Replays)
		}
	}

	// With a higher limit the refused one goes, too.
	if _, err = b.tool.Replay(t.Context(), service, poison.Filter{IDs: []string{id2}}, poison.Options{MaxReplays: 6}); err != nil {
		t.Fatal(err)
	}
	if got := b.list(t); len(got) > 0 {
		t.Errorf("left in poison: %v", got)
	}
}

func TestDropEndsAllGenerations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, followed(t, 1), 7, "panic", 0)
	b.add(t, followed(t, 1), 7, "panic", 1)
	b.add(t, followed(t, 2), 8, "panic", 0)
	result, err := b.tool.Drop(t.Context(), service, poison.Filter{IDs: []string{id1}}, poison.Options{})
	if err != nil || len(result.Done) != 1 {
		t.Fatalf("Drop = %v, %v", lines(result.Done), err)
	}
	if diff := cmp.Diff([]line{{id2, "panic", 0}}, b.list(t), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("left in poison (-want +got):\n%s", diff)
	}
	if got := b.contents(t, event.RetryTopic(service)); len(got) > 0 {
		t.Errorf("dropped letters were replayed: %v", got)
	}
}

// failAfter is a broker that goes away in the middle of the work.
type failAfter struct {
	poison.Publisher

	left int
}

func (f *failAfter) PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error {
	if f.left--; f.left < 0 {
		return errors.New("broker is gone")
	}
	return f.Publisher.PublishContext(ctx, topic, msgs...)
}

// A replay that dies between the event and its tombstone shows the letter again;
// one that dies before the event has lost nothing.
func TestReplayCutShort(t *testing.T) {
	t.Parallel()
	for published, want := range []struct{ done, left, retried int }{
		{0, 2, 0}, {0, 2, 1}, {1, 1, 1}, {1, 1, 2}, {2, 0, 2},
	} {
		t.Run(fmt.Sprintf("after %d publishes", published), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.add(t, followed(t, 1), 7, "panic", 0)
			b.add(t, followed(t, 2), 8, "panic", 0)
			tool := poison.New(poison.Config{}, func(topic string) poison.Tail { return b.tail(topic) },
				&failAfter{b.pub, published}, slog.New(slog.DiscardHandler))
			result, err := tool.Replay(t.Context(), service, poison.Filter{All: true}, poison.Options{})
			if (err == nil) != (want.left == 0) {
				t.Errorf("Replay fails with %v", err)
			}
			if len(result.Done) != want.done || len(b.list(t)) != want.left || len(b.contents(t, event.RetryTopic(service))) != want.retried {
				t.Errorf("done %d, left %d, retried %d, want %+v", len(result.Done), len(b.list(t)), len(b.contents(t, event.RetryTopic(service))), want)
			}
		})
	}
}

// TestRoundTrip: a real subscriber and router with the service's stack; an event
// that a bug makes poison is replayed after the bug is fixed.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	log := slog.New(slog.DiscardHandler)
	policy := middleware.NewPoison(middleware.PoisonConfig{Service: service}, b.pub, log, nil)
	fixed := make(chan struct{})
	handled := make(chan string, 10)
	handler := func(msg *message.Message) error {
		select {
		case <-fixed:
		default:
			if msg.UUID == id1 {
				panic("bug")
			}
		}
		handled <- msg.UUID
		return nil
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 15 * time.Second}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	router.AddMiddleware(policy.Suspected, middleware.Retry{Attempts: 2}.Middleware, policy.Permanent, wmiddleware.Recoverer)
	for _, topic := range []string{event.Topic, event.RetryTopic(service)} {
		sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: b.brokers, Group: service + "-" + topic}, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		router.AddConsumerHandler(topic, topic, sub, handler)
	}
	done := make(chan error, 1)
	go func() { done <- router.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		if err := errors.Join(router.Close(), <-done); err != nil {
			t.Error(err)
		}
	})

	b.publish(t, event.Topic, followed(t, 1))
	b.publish(t, event.Topic, followed(t, 2)) // same author, same lane: it waits for the first
	if got := <-handled; got != id2 {
		t.Fatalf("handled %s first, want the neighbour %s", got, id2)
	}
	entries, err := b.tool.List(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]line{{id1, "panic", 0}}, lines(entries), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("poison (-want +got):\n%s", diff)
	}
	if e := entries[0]; e.Origin.Topic != event.Topic || e.Origin.Time.IsZero() || !strings.Contains(e.Error, "bug") {
		t.Errorf("letter = %+v", e.Letter)
	}

	close(fixed)
	if _, err := b.tool.Replay(t.Context(), service, poison.Filter{IDs: []string{id1}}, poison.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := <-handled; got != id1 {
		t.Errorf("handled %s, want the replayed %s", got, id1)
	}
	if got := b.list(t); len(got) > 0 {
		t.Errorf("left in poison: %v", got)
	}
	if got := len(b.contents(t, event.Topic)); got != 2 {
		t.Errorf("%s holds %d records, want the 2 that were accepted", event.Topic, got)
	}
}
