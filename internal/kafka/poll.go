package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxPoll bounds the records of one poll, and with them the time for which a
	// poll holds up a rebalance.
	maxPoll = 1000
	// errorPause keeps a poll that only brings errors from spinning.
	errorPause = 250 * time.Millisecond
)

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
			if ended := s.window.add(f.Partition, t.TopicID, f.Records, f.HighWatermark, now); ended != nil {
				s.metrics.resets.Inc()
				s.log.Error("the log began anew below what was already read; reading goes on from there",
					"partition", f.Partition, "offset", f.Records[0].Offset, "read", ended.last)
			}
			if s.cfg.Batch != nil {
				for _, r := range f.Records {
					r.Recycle() // the window has copied it
				}
			}
		}
	})
	s.wake()
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
