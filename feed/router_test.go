package feed

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// patience bounds the wait for a signal; nothing here takes as long.
const patience = 60 * time.Second

// witness is a subscriber that tells of every ack.
type witness struct {
	message.Subscriber

	acks chan string // ids of acked messages
	wg   sync.WaitGroup
}

func (w *witness) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := w.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	w.wg.Go(func() {
		defer close(out)
		for msg := range in {
			w.wg.Go(func() {
				select {
				case <-msg.Acked():
					w.acks <- msg.UUID
				case <-msg.Nacked():
				}
			})
			out <- msg
		}
	})
	return out, nil
}

// await waits until these messages were acked, in any order.
func (w *witness) await(t *testing.T, ids ...string) {
	t.Helper()
	for deadline := time.After(patience); len(ids) > 0; {
		select {
		case id := <-w.acks:
			ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
		case <-deadline:
			t.Fatalf("not acked within %v: %v", patience, ids)
		}
	}
}

// pipeline is a feed on a log: kfake, our own subscriber, the real router.
type pipeline struct {
	*process

	brokers   []string
	publisher *kafka.Publisher
	witness   *witness
	metrics   *prometheus.Registry
	stop      func() error // ends Run and returns what it returned
}

func startPipeline(t *testing.T, w *world, brokers []string) *pipeline {
	t.Helper()
	log := testenv.Logger(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topics := map[string]kafka.TopicConfig{}
	for _, topic := range []string{event.Topic, event.PoisonTopic(service), event.RetryTopic(service)} {
		topics[topic] = kafka.TopicConfig{Partitions: 4}
	}
	if err := admin.EnsureTopics(t.Context(), topics); err != nil {
		t.Fatal(err)
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { publisher.Close() })
	subscriber := func() message.Subscriber {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: brokers, Group: service, NackBackoff: 5 * time.Millisecond, MaxNackBackoff: 20 * time.Millisecond,
		}, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	p := &pipeline{
		process: w.process(t, Config{}), brokers: brokers, publisher: publisher,
		witness: &witness{Subscriber: subscriber(), acks: make(chan string, 1000)},
		metrics: prometheus.NewRegistry(),
	}
	p.Feed, err = New(Config{RetryInitial: time.Millisecond, RetryMax: 2 * time.Millisecond, RedisTimeout: testenv.RedisTimeout}, Deps{
		Log: log, Redis: p.client, Now: w.clock.Now, Metrics: p.metrics,
		Subscriber: p.witness, RetrySubscriber: subscriber(), Publisher: publisher,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.api = p.service()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run did not end")
		}
	})
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		p.witness.wg.Wait()
	})
	return p
}

// publish puts messages on a topic and returns their ids.
func (p *pipeline) publish(t *testing.T, topic string, messages ...*message.Message) []string {
	t.Helper()
	var ids []string
	for _, msg := range messages {
		ids = append(ids, msg.UUID)
		if err := p.publisher.Publish(topic, msg); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func encoded(t *testing.T, e event.Event) *message.Message {
	t.Helper()
	msg, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// poison returns the letters that lie in the feed's poison topic.
func (p *pipeline) poison(t *testing.T) []*message.Message {
	t.Helper()
	tail := kafka.NewTail(kafka.TailConfig{Brokers: p.brokers, Topic: event.PoisonTopic(service)}, testenv.Logger(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var letters []*message.Message
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tail.Run(ctx, func(msg *message.Message) error {
			letters = append(letters, msg)
			return nil
		})
	}()
	err := tail.CaughtUp(ctx)
	cancel()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

func TestFactsReachTheFeedsAndPoisonLeaves(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := startPipeline(t, w, testenv.Kafka(t))
	first := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	second := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	broken, alien := encoded(t, w.event(unfollowed("bob", "ann"))), encoded(t, w.event(unfollowed("bob", "ann")))
	broken.Payload = []byte("not a protobuf")
	alien.Metadata["ce_type"] = "activityfeed.v1.UserWaved"
	ids := p.publish(t, event.Topic,
		encoded(t, w.event(followed("bob", "ann"))), encoded(t, first), broken, alien, encoded(t, second))
	p.witness.await(t, ids...)

	p.wantHome(t, "bob", newestFirst(postID(first), postID(second))...)
	letters := p.poison(t)
	if len(letters) != 1 || letters[0].Metadata["poison_reason"] != event.ReasonUndecodable {
		t.Errorf("poison = %v, want the broken one alone", letters)
	}
	if got := testenv.Value(t, p.store.metrics.ignored); got != 1 {
		t.Errorf("%v events ignored, want the alien one", got)
	}

	// Poison that was mended comes back on the feed's own topic.
	mended := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	retried := make(chan struct{})
	p.tap.mu.Lock()
	p.tap.each = sync.OnceFunc(func() { close(retried) })
	p.tap.mu.Unlock()
	p.publish(t, event.RetryTopic(service), encoded(t, mended))
	select {
	case <-retried:
	case <-time.After(patience):
		t.Fatal("the retry topic is not read")
	}
	if err := p.stop(); err != nil { // it drains
		t.Fatal(err)
	}
	p.wantHome(t, "bob", newestFirst(postID(first), postID(second), postID(mended))...)
}

func TestAnOutageIsNeverPoison(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := startPipeline(t, w, testenv.Kafka(t))
	failing := make(chan struct{})
	var calls int
	p.tap.mu.Lock()
	p.tap.each = func() {
		p.tap.mu.Lock()
		defer p.tap.mu.Unlock()
		if calls++; calls == 15 { // beyond the retries in place and MaxAttempts
			close(failing)
		}
	}
	p.tap.mu.Unlock()
	w.clock.mini.SetError("LOADING Redis is loading the dataset in memory")
	post := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	ids := p.publish(t, event.Topic, encoded(t, w.event(followed("bob", "ann"))), encoded(t, post))
	select {
	case <-failing:
	case <-time.After(patience):
		t.Fatal("no failures")
	}
	w.clock.mini.SetError("")
	p.witness.await(t, ids...)
	p.wantHome(t, "bob", postID(post))
	if letters := p.poison(t); len(letters) != 0 {
		t.Errorf("poison = %v, want none", letters)
	}
}

func TestAStopWaitsForWhatIsInFlight(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	brokers := testenv.Kafka(t)
	p := startPipeline(t, w, brokers)
	inFlight, release := make(chan struct{}), make(chan struct{})
	p.tap.arm(1, func() { close(inFlight); <-release }, 0, false)
	post := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	ids := p.publish(t, event.Topic, encoded(t, post))
	<-inFlight
	stopped := make(chan error, 1)
	go func() { stopped <- p.stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("Run ended with a post in flight: %v", err)
	case <-time.After(50 * time.Millisecond): // it must not end, however long
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	p.witness.await(t, ids...)
	p.wantHome(t, "ann", postID(post))
}

func TestARetryInPlaceIsARepeat(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := startPipeline(t, w, testenv.Kafka(t))
	follow := w.event(followed("bob", "ann"))
	p.witness.await(t, p.publish(t, event.Topic, encoded(t, follow))...)
	p.wantHome(t, "bob")
	p.tap.arm(0, nil, 3, true) // the pushes arrive, their answer does not
	post := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
	p.witness.await(t, p.publish(t, event.Topic, encoded(t, post))...)
	if got, want := w.list(t, "bob"), []string{postID(post), sentinel}; !slices.Equal(got, want) {
		t.Errorf("list = %v, want %v", got, want)
	}
}

func TestRunNeedsItsSubscribers(t *testing.T) {
	t.Parallel()
	p := newMiniWorld(t).process(t, Config{})
	if err := p.Run(t.Context()); err == nil {
		t.Error("Run without subscribers returned nil")
	}
}

func postID(e event.Event) string {
	return e.Data.(*pb.PhotoPosted).GetPhoto().GetPostId()
}
