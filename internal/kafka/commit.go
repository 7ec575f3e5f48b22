package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitLoop commits what has changed, every CommitInterval and when a batch
// waits for it. A commit that failed is made again the next time.
func (s *subscription) commitLoop(stop <-chan struct{}) {
	ticker := time.NewTicker(s.cfg.CommitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.wakeCommit:
		case <-stop:
		}
		select {
		case <-stop:
			return // also when the ticker is always ready, since commits take long
		default:
			s.commit()
		}
	}
}

func (s *subscription) commit() {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.commitTimeout())
	defer cancel()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	targets := s.window.dirty()
	s.mu.Unlock()
	s.write(ctx, targets)
}

// write commits positions and notes which ones the group has. The caller holds
// writing. The client sends the generation along, so that the broker refuses what
// comes from a member that the group went on without.
func (s *subscription) write(ctx context.Context, targets map[*partition]position) {
	if len(targets) == 0 {
		return
	}
	offsets := make(map[int32]kgo.EpochOffset, len(targets))
	byID := make(map[int32]*partition, len(targets))
	for p, at := range targets {
		offsets[p.id] = kgo.EpochOffset{Epoch: at.epoch, Offset: at.offset}
		byID[p.id] = p
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				part := &req.Topics[i].Partitions[j]
				part.Metadata = new(targets[byID[part.Partition]].meta)
			}
		}
		return nil
	})
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				err = s.wrote(resp, byID, targets)
			}
			if err != nil {
				s.metrics.commitErrors.Inc()
				s.log.Warn("commit; it is tried again", "err", err)
			}
		})
}

// wrote takes the broker's answer; it returns the first refusal.
func (s *subscription) wrote(resp *kmsg.OffsetCommitResponse, byID map[int32]*partition, targets map[*partition]position) error {
	var refused error
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range resp.Topics {
		for _, answer := range topic.Partitions {
			if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
				refused = fmt.Errorf("partition %d: %w", answer.Partition, err)
				continue
			}
			if p := byID[answer.Partition]; p != nil {
				s.window.wrote(p, targets[p])
			}
		}
	}
	s.wake()
	return refused
}
