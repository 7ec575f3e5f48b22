package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
)

// batchFetch is how many bytes of the log are fetched at once in batch mode.
const batchFetch = 1 << 20

// grace is what messages get to settle once their context has ended, at most.
const grace = time.Second

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

	// ctx ends when polling and dispatching are to end.
	ctx    context.Context //nolint:containedctx // Subscribe gives it, close ends it; its loops have no other caller
	cancel context.CancelFunc
	// done is closed when run has returned.
	done chan struct{}

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
	if s.cfg.Batch != nil {
		pool := &readPool{}
		s.window.flat = newFlattener(pool)
		opts = append(opts, kgo.WithPools(pool), kgo.WithDecompressor(s.window.flat),
			// What a fetch brings is unpacked before the first record of it can be had: 16 MB
			// of log are 300,000 events, and half a second in which nobody else has work.
			kgo.FetchMaxBytes(batchFetch), kgo.FetchMaxPartitionBytes(batchFetch))
	}
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
