package analytics

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/delivery"
	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
)

// patience bounds the wait for a signal; nothing here takes as long.
const patience = 60 * time.Second

// await waits for a signal.
func await(t testing.TB, what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// heard is a logger that tells when a line was written.
type heard struct {
	slog.Handler

	mu    sync.Mutex
	lines []string
	waits map[string]chan struct{}
}

func newHeard(t testing.TB) *heard {
	return &heard{Handler: testenv.Logger(t).Handler(), waits: map[string]chan struct{}{}}
}

func (h *heard) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	h.lines = append(h.lines, r.Message)
	for part, signal := range h.waits {
		if strings.Contains(r.Message, part) {
			close(signal)
			delete(h.waits, part)
		}
	}
	h.mu.Unlock()
	return h.Handler.Handle(ctx, r)
}

// next returns a signal for the next line with part in it.
func (h *heard) next(part string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	signal := make(chan struct{})
	h.waits[part] = signal
	return signal
}

// seen returns a signal for a line with part in it, past or future.
func (h *heard) seen(part string) <-chan struct{} {
	signal := h.next(part)
	if h.count(part) > 0 {
		past := make(chan struct{})
		close(past)
		return past
	}
	return signal
}

func (h *heard) count(part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, line := range h.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// counting tells when so many rows are in the table.
type counting struct {
	inserter

	mu     sync.Mutex
	rows   int
	target int
	done   chan struct{}
}

func (c *counting) insert(ctx context.Context, token string, r block, from, to int) error {
	err := c.inserter.insert(ctx, token, r, from, to)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.rows += to - from
	}
	if c.done != nil && c.rows >= c.target {
		close(c.done)
		c.done = nil
	}
	return err
}

// reached returns a signal for the moment when n rows were inserted.
func (c *counting) reached(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := make(chan struct{})
	c.target = n
	if c.rows >= n {
		close(done)
	} else {
		c.done = done
	}
	return done
}

// newAnalytics returns an Analytics on a broker, as cmd/activityfeed wires it,
// but with small batches and little patience.
func newAnalytics(cfg Config, brokers []string, log *slog.Logger) (*Analytics, error) {
	return newAnalyticsAs(Service, cfg, brokers, log)
}

// newAnalyticsAs is newAnalytics as another consumer group.
func newAnalyticsAs(group string, cfg Config, brokers []string, log *slog.Logger) (*Analytics, error) {
	batches, err := testGroup(brokers, log, group, &kafka.BatchConfig{MaxRecords: 100, MaxWait: 20 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	singles, err := testGroup(brokers, log, event.RetryTopic(group), nil)
	if err != nil {
		return nil, err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		return nil, err
	}
	cfg.RetryInitial, cfg.RetryMax = time.Millisecond, 10*time.Millisecond
	return New(cfg, Deps{Log: log, Subscriber: batches, RetrySubscriber: singles, Publisher: publisher})
}

func testGroup(brokers []string, log *slog.Logger, name string, batch *kafka.BatchConfig) (message.Subscriber, error) {
	return kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: brokers, Group: name, Batch: batch,
		NackBackoff: 10 * time.Millisecond, MaxNackBackoff: 200 * time.Millisecond,
		// Rows that come again count here: nobody is expelled for a stall. Who is killed is
		// evicted.
		Session: 30 * time.Second, Heartbeat: 100 * time.Millisecond, Rebalance: 5 * time.Second,
		CommitInterval: 50 * time.Millisecond, Drain: 5 * time.Second,
	}, log, nil)
}

// running is an Analytics at work.
type running struct {
	*Analytics

	t     testing.TB
	log   *heard
	store *counting
	stop  context.CancelFunc
	ended chan error
}

func run(t testing.TB, cfg Config, brokers []string) *running {
	t.Helper()
	log := newHeard(t)
	a, err := newAnalytics(cfg, brokers, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	store := &counting{inserter: a.sink.store}
	a.sink.store = store
	ctx, stop := context.WithCancel(context.Background())
	r := &running{a, t, log, store, stop, make(chan error, 1)}
	go func() { r.ended <- a.Run(ctx) }()
	t.Cleanup(r.close)
	return r
}

// close stops and checks that the stop was clean. A second call does nothing.
func (r *running) close() {
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run = %v, want nil", err)
		}
	case <-time.After(patience):
		r.t.Errorf("Run does not end within %v", patience)
	}
}

// newLog returns the brokers of a log that has the topics of this service.
func newLog(t testing.TB) []string {
	t.Helper()
	brokers := testenv.Kafka(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{
		event.Topic: {}, event.RetryTopic(Service): {}, event.PoisonTopic(Service): {}, delivery.Topic: {Partitions: 2},
	}); err != nil {
		t.Fatal(err)
	}
	return brokers
}

// publish puts events on the log, each under its own key.
func publish(t testing.TB, brokers []string, events ...event.Event) {
	t.Helper()
	publishTo(t, brokers, event.Topic, events...)
}

func publishTo(t testing.TB, brokers []string, topic string, events ...event.Event) {
	t.Helper()
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	messages := make([]*message.Message, 0, len(events))
	for _, e := range events {
		msg, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, msg)
	}
	if err := publisher.Publish(topic, messages...); err != nil {
		t.Fatal(err)
	}
}

// manyPhotos are posts of 40 authors, so that every partition gets some.
func manyPhotos(first, last int) []event.Event {
	var all []event.Event
	for n := first; n <= last; n++ {
		all = append(all, photo(n, "user"+strconv.Itoa(n%40)))
	}
	return all
}

// wantPosts checks that the views count n posts.
func (tt *testTable) wantPosts(n int) {
	tt.t.Helper()
	want := []string{fmt.Sprintf("%d %d", n, n)}
	got := tt.lines("SELECT (SELECT sum(events) FROM {db}.posts_daily), (SELECT sum(posts) FROM {db}.top_authors)")
	if diff := cmp.Diff(want, got); diff != "" {
		tt.t.Errorf("posts in posts_daily and top_authors (-want +got):\n%s", diff)
	}
}

// poisoned returns how many letters there are.
func poisoned(t testing.TB, brokers []string) int64 {
	t.Helper()
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ends, err := admin.EndOffsets(t.Context(), event.PoisonTopic(Service))
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, end := range ends {
		n += end
	}
	return n
}

func TestFromTheLogToTheTable(t *testing.T) {
	t.Parallel()
	addr, database := testenv.ClickHouse(t)
	cfg := Config{Addr: addr, Database: database}
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(0, 999)...)
	r := run(t, cfg, brokers)
	await(t, "1000 rows", r.store.reached(1000))
	// Bad bytes on the log, and a good event that comes back from poison.
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	bad, err := event.Encode(photo(1000, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	bad.Payload = []byte{0xff}
	buried := r.log.next("message poisoned")
	if err := publisher.Publish(event.Topic, bad); err != nil {
		t.Fatal(err)
	}
	await(t, "poison", buried)
	back, err := event.Encode(photo(1001, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.Publish(event.RetryTopic(Service), back); err != nil {
		t.Fatal(err)
	}
	await(t, "the replayed row", r.store.reached(1001))
	r.close()

	connect(t, cfg.withDefaults()).wantPosts(1001)
	if got := poisoned(t, brokers); got != 1 {
		t.Errorf("%d letters, want 1", got)
	}
}

func TestClickHouseIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	port := testenv.FreePort(t)
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(0, 299)...)
	dir := t.TempDir()
	cfg := Config{Addr: "127.0.0.1:" + strconv.Itoa(port), Username: embedded.ClickHouseUser, Password: "secret"}
	r := run(t, cfg, brokers)
	await(t, "the line that it is away", r.log.seen("ClickHouse is away"))

	testenv.ClickHouseServer(t, embedded.ClickHouseConfig{Dir: dir, TCPPort: port, Password: "secret"})
	await(t, "300 rows", r.store.reached(300))
	r.close()
	if got := r.log.count("ClickHouse is away"); got != 1 {
		t.Errorf("%d lines say that it is away, want 1", got)
	}
	if got := r.log.count("catching up"); got != 1 {
		t.Errorf("%d lines say that it came, want 1", got)
	}
	connect(t, cfg.withDefaults()).wantPosts(300)
}

func TestStopWhileClickHouseIsAway(t *testing.T) {
	t.Parallel()
	r := run(t, Config{Addr: "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))}, newLog(t))
	await(t, "the line that it is away", r.log.seen("ClickHouse is away"))
	r.close() // checks that Run ends with nil
}

func TestClickHouseGoesAndComesBack(t *testing.T) {
	t.Parallel()
	port := testenv.FreePort(t)
	server := embedded.ClickHouseConfig{Dir: t.TempDir(), TCPPort: port, Password: "secret"}
	first := testenv.ClickHouseServer(t, server)
	brokers := newLog(t)
	cfg := Config{Addr: first.Addr(), Username: embedded.ClickHouseUser, Password: "secret"}
	r := run(t, cfg, brokers)
	publish(t, brokers, manyPhotos(0, 499)...)
	await(t, "500 rows", r.store.reached(500))

	down := r.log.next("takes no inserts")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, brokers, manyPhotos(500, 999)...)
	await(t, "the line that it went", down)
	up := r.log.next("takes inserts again")
	testenv.ClickHouseServer(t, server)
	await(t, "the line that it is back", up)
	await(t, "1000 rows", r.store.reached(1000))
	r.close()

	table := connect(t, cfg.withDefaults())
	table.wantPosts(1000)
	if got := poisoned(t, brokers); got != 0 {
		t.Errorf("%d letters after an outage, want none", got)
	}
}

func TestRunRefusesAChangedSchema(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("INSERT INTO {db}.schema_migrations (version, name, checksum) VALUES (1, '0001_events.sql', 'other')")
	a, err := newAnalytics(table.cfg, newLog(t), testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "0001_events.sql") {
		t.Errorf("Run = %v, want an error that names the file", err)
	}
}

// A stop lets the insert that is under way finish, poisons nothing and loses nothing.
func TestStopDuringAnInsert(t *testing.T) {
	t.Parallel()
	addr, database := testenv.ClickHouse(t)
	cfg := Config{Addr: addr, Database: database}
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(0, 99)...)
	log := newHeard(t)
	a, err := newAnalytics(cfg, brokers, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	gate := &gated{inserter: a.sink.store, arrived: make(chan struct{}), open: make(chan struct{})}
	a.sink.store = gate
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	await(t, "the first insert", gate.arrived)
	closing := log.next("Closing router")
	stop()
	await(t, "the stop", closing)
	close(gate.open)
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if gate.failed > 0 {
		t.Errorf("%d inserts were cut off", gate.failed)
	}
	r := run(t, cfg, brokers)
	await(t, "the rest", r.store.reached(100-gate.rows))
	r.close()
	connect(t, cfg.withDefaults()).wantPosts(100)
	if got := poisoned(t, brokers); got != 0 {
		t.Errorf("%d letters after a stop, want none", got)
	}
}

// gated holds inserts back until it is opened.
type gated struct {
	inserter

	once    sync.Once
	arrived chan struct{}
	open    chan struct{}

	mu           sync.Mutex
	rows, failed int
}

func (g *gated) insert(ctx context.Context, token string, r block, from, to int) error {
	g.once.Do(func() { close(g.arrived) })
	<-g.open
	err := g.inserter.insert(ctx, token, r, from, to)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.failed++
	} else {
		g.rows += to - from
	}
	return err
}
