package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/record"
)

const (
	// maxPoll bounds the records of one poll, and with them the time for which a
	// poll holds up a rebalance.
	maxPoll = 1000
	// grace is what messages get to settle once their context has ended, at most.
	grace = time.Second
	// errorPause keeps a poll that only brings errors from spinning.
	errorPause = 250 * time.Millisecond
)

// subscription is one call of Subscribe: one client, one member of the group, one
// channel. Its goroutines are the poll loop, the dispatcher, the committer and a
// hand for each message in flight; run starts them and waits for them.
type subscription struct {
	cfg     SubscriberConfig
	topic   string
	log     *slog.Logger
	metrics *series
	client  *kgo.Client
	out     chan *message.Message

	// mu guards the window and the hands.
	mu     sync.Mutex
	window *window
	hands  []*hand // all
	idle   []*hand // those that wait for nothing

	// writing is held over a commit, from the look at the window to the broker's
	// answer, so that a partition is not given up while an older commit of it is
	// under way.
	writing sync.Mutex

	ctx    context.Context // ends when polling and dispatching are to end
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	// These wake the loops; each holds one token.
	wakeDispatch, wakePoll, wakeCommit chan struct{}

	working sync.WaitGroup // of the hands
}

func newSubscription(ctx context.Context, cfg SubscriberConfig, topic string, log *slog.Logger, m *metrics) *subscription {
	s := &subscription{
		cfg:          cfg,
		topic:        topic,
		log:          log.With("topic", topic, "group", cfg.Group),
		metrics:      m.series(cfg.Group, topic),
		out:          make(chan *message.Message),
		window:       newWindow(context.WithoutCancel(ctx), cfg),
		done:         make(chan struct{}),
		wakeDispatch: make(chan struct{}, 1),
		wakePoll:     make(chan struct{}, 1),
		wakeCommit:   make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// connect makes the client.
func (s *subscription) connect() error {
	opts := append(baseOptions(s.cfg.Brokers, s.cfg.ClientID, s.log),
		// Records are never skipped: whatever happens to the log, reading goes on with
		// the oldest record there is.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(16<<20),
		kgo.FetchMaxPartitionBytes(2<<20),
	)
	opts = append(opts, s.cfg.options...)
	switch start := kgo.NewOffset().AtStart(); {
	case s.cfg.Group != "":
		if s.cfg.From == StartNewest {
			start = kgo.NewOffset().AtEnd()
		}
		opts = append(opts, kgo.ConsumeTopics(s.topic), kgo.ConsumeStartOffset(start))
		opts = append(opts, s.groupOptions()...)
	case s.cfg.From == StartOldest:
		opts = append(opts, kgo.ConsumeTopics(s.topic), kgo.ConsumeStartOffset(start))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("kafka: subscribe to %s: %w", s.topic, err)
	}
	if s.cfg.Group == "" && s.cfg.From == StartNewest {
		// Asked for now, and not at the first fetch: what is written after Subscribe
		// returned is read.
		if _, err := consumeSince(s.ctx, client, s.topic, time.Time{}); err != nil {
			client.Close()
			return err
		}
	}
	s.client = client
	return nil
}

// close asks the subscription to end; done tells when it has.
func (s *subscription) close() { s.cancel() }

// run reads until the subscription is closed or its context ends, and drains.
func (s *subscription) run() {
	defer s.metrics.watch(s)()

	var reading, writing sync.WaitGroup
	reading.Go(s.poll)
	reading.Go(s.dispatch)
	stopWriting := make(chan struct{})
	if s.cfg.Group != "" {
		writing.Go(func() { s.commitLoop(stopWriting) })
	}

	<-s.ctx.Done()
	reading.Wait()
	s.drain()
	close(stopWriting)
	writing.Wait()
	s.leave()
	s.dismiss()
	close(s.out)
}

// drain waits for the messages in flight; the committer still runs.
func (s *subscription) drain() {
	s.mu.Lock()
	parts := s.partitions()
	for _, p := range parts {
		s.window.stop(p)
	}
	idle := s.window.waitFor(parts)
	s.mu.Unlock()

	if wait(idle, s.cfg.Drain) {
		return
	}
	for _, p := range parts {
		p.cancel(ErrClosing)
	}
	if !wait(idle, min(grace, s.cfg.Drain)) {
		s.log.Warn("messages were still in flight when the subscription closed; they will be redelivered")
	}
}

// leave gives everything up: the last commit, the group, the client.
func (s *subscription) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.commitTimeout())
	defer cancel()
	s.mu.Lock()
	parts := s.partitions()
	s.mu.Unlock()
	s.giveUp(ctx, parts, ErrClosing, true)
	if err := s.client.LeaveGroupContext(ctx); err != nil {
		s.log.Warn("leave the group: the others wait for the session to time out", "err", err)
	}
	s.client.CloseAllowingRebalance()
}

func (s *subscription) partitions() []*partition {
	var parts []*partition
	for _, p := range s.window.parts {
		parts = append(parts, p)
	}
	return parts
}

// poll reads records into the window while there is room.
func (s *subscription) poll() {
	for {
		room, ok := s.waitForRoom()
		if !ok {
			return
		}
		fetches := s.client.PollRecords(s.ctx, min(room, maxPoll))
		if s.ctx.Err() == nil && !fetches.IsClientClosed() {
			s.register(fetches)
			s.pauseJammed()
		}
		// After every poll, also one that brought nothing but errors: else no
		// rebalance ever comes to an end.
		s.client.AllowRebalance()
		if fetches.IsClientClosed() {
			return
		}
		s.reportErrors(fetches)
	}
}

// waitForRoom returns how many records may be polled, false when it is over.
func (s *subscription) waitForRoom() (room int, ok bool) {
	for s.ctx.Err() == nil {
		s.mu.Lock()
		room := s.window.room()
		s.mu.Unlock()
		if room > 0 {
			return room, true
		}
		if s.pauseJammed() {
			continue
		}
		select {
		case <-s.wakePoll:
		case <-s.ctx.Done():
		}
	}
	return 0, false
}

// pauseJammed stops the reading of partitions that hold the others up. It reports
// whether there were any.
func (s *subscription) pauseJammed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	jammed := s.window.jam()
	if len(jammed) == 0 {
		return false
	}
	// Under the lock, here and where partitions are resumed: else the one could pass
	// the other, and the client keep a partition paused for ever.
	s.client.PauseFetchPartitions(map[string][]int32{s.topic: jammed})
	s.log.Info("paused partitions that hold the others up", "partitions", jammed)
	return true
}

// register puts what was polled into the window.
func (s *subscription) register(fetches kgo.Fetches) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	fetches.EachTopic(func(t kgo.FetchTopic) {
		for _, f := range t.Partitions {
			if f.Partition < 0 {
				continue // an error of the client, not a partition
			}
			if s.cfg.Group == "" && s.window.parts[f.Partition] == nil {
				s.window.assign(f.Partition)
			}
			if ended := s.window.add(f.Partition, t.TopicID, f.Records, now); ended != nil {
				s.metrics.resets.Inc()
				s.log.Error("the log began anew below what was already read; reading goes on from there",
					"partition", f.Partition, "offset", f.Records[0].Offset, "read", ended.last)
			}
			if p := s.window.parts[f.Partition]; p != nil {
				p.end = max(f.HighWatermark, 0)
			}
		}
	})
	s.wake()
}

// wake tells the loops that the window has changed. The caller holds mu.
func (s *subscription) wake() {
	signal(s.wakeDispatch)
	signal(s.wakePoll)
	s.wakeCommitter()
}

func (s *subscription) wakeCommitter() {
	if s.window.wanted {
		s.window.wanted = false
		signal(s.wakeCommit)
	}
}

func (s *subscription) reportErrors(fetches kgo.Fetches) {
	failed := false
	fetches.EachError(func(_ string, partition int32, err error) {
		if errors.Is(err, context.Canceled) && s.ctx.Err() != nil {
			return
		}
		failed = true
		s.metrics.fetchErrors.Inc()
		s.log.Error("read from the log", "partition", partition, "err", err)
	})
	if failed && fetches.NumRecords() == 0 {
		wait(s.ctx.Done(), errorPause)
	}
}

// dispatch hands out what is ready.
func (s *subscription) dispatch() {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for s.ctx.Err() == nil {
		now := time.Now()
		s.mu.Lock()
		d := s.window.next(now)
		due, ok := s.window.due()
		if s.window.ready == 0 {
			signal(s.wakePoll) // a poll may have waited for the work to run out
		}
		s.wakeCommitter()
		s.mu.Unlock()
		if d != nil {
			s.send(d)
			continue
		}
		if ok {
			alarm.Reset(due.Sub(now))
		} else {
			alarm.Stop()
		}
		select {
		case <-s.wakeDispatch:
		case <-alarm.C:
		case <-s.ctx.Done():
		}
	}
}

// send hands a delivery out as a new message; the record is decoded again each
// time, so that what a handler did to an earlier message is gone.
func (s *subscription) send(d *delivery) {
	msg, end := d.message(s.topic)
	select {
	case s.out <- msg:
		s.metrics.delivered.Inc()
		s.hand().work <- handful{d, msg, end}
		return
	case <-d.part.stop:
	case <-s.ctx.Done():
	}
	end()
	s.mu.Lock()
	s.window.unsend(d)
	s.mu.Unlock()
}

// message makes the next message of a delivery and the function that ends its
// context.
func (d *delivery) message(topic string) (*message.Message, context.CancelFunc) {
	p := d.part
	origin := record.Origin{
		Topic:      topic,
		TopicID:    p.topicName,
		Partition:  p.id,
		Offset:     d.first,
		LastOffset: d.last,
		Time:       d.records[0].Timestamp,
		Attempt:    d.attempts,
	}
	var msg *message.Message
	if p.batcher != nil {
		msg = d.batchMessage(topic)
	} else {
		msg = consumed(d.records[0]).Message()
	}
	ctx, cancel := context.WithCancel(record.WithOrigin(p.ctx, origin))
	msg.SetContext(ctx)
	return msg, cancel
}

// consumed returns the record as the rest of the program knows it.
func consumed(r *kgo.Record) record.Record {
	headers := make([]record.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = record.Header{Name: h.Key, Value: h.Value}
	}
	return record.Record{Key: r.Key, Value: r.Value, Headers: headers, Offset: r.Offset, Time: r.Timestamp}
}

// signal leaves a token in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wait waits for c, at most for d; it reports whether c was closed.
func wait(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
