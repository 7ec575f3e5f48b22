package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupOptions make the client a member of the group. Offsets are committed by
// us alone (commit.go): the client's own marks never go back after a reset, and
// are taken also for partitions that are no longer ours.
func (s *subscription) groupOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		// Between a poll and the records' place in the window no partition is taken.
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(s.cfg.Session),
		kgo.HeartbeatInterval(s.cfg.Heartbeat),
		kgo.RebalanceTimeout(s.cfg.Rebalance),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnOffsetsFetched(s.fetched),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	}
}

// assigned begins the ownership of partitions.
func (s *subscription) assigned(_ context.Context, client *kgo.Client, given map[string][]int32) {
	ids := given[s.topic]
	if len(ids) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if old := s.window.parts[id]; old != nil {
			s.window.stop(old)
			s.window.drop(old, ErrRevoked)
		}
		s.window.assign(id)
	}
	// A pause outlives the ownership in which it was made.
	client.ResumeFetchPartitions(map[string][]int32{s.topic: ids})
}

// fetched learns what the group has committed, before the first record comes.
func (s *subscription) fetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, group := range resp.Groups {
		for _, topic := range group.Topics {
			if topic.Topic != "" && topic.Topic != s.topic {
				continue
			}
			for _, p := range topic.Partitions {
				at := position{offset: p.Offset, epoch: p.LeaderEpoch}
				if p.Metadata != nil {
					at.meta = *p.Metadata
				}
				s.window.resume(p.Partition, at)
			}
		}
	}
	return nil
}

// revoked gives partitions up: nothing new goes out, what is out gets the time to
// settle, what is done is committed. The client sends heartbeats meanwhile; it
// calls this with nothing to revoke, too.
func (s *subscription) revoked(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	parts := s.owned(taken)
	if len(parts) == 0 {
		return
	}
	s.mu.Lock()
	for _, p := range parts {
		s.window.stop(p)
	}
	idle := s.window.waitFor(parts)
	s.mu.Unlock()
	if !wait(idle, min(s.cfg.Drain, s.cfg.Rebalance/3)) {
		s.log.Warn("messages were still in flight when their partition was revoked; they are delivered again")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.commitTimeout())
	defer cancel()
	s.giveUp(ctx, parts, ErrRevoked, true) // the client's context may have ended
}

// lost gives up partitions that somebody else may own already: nothing is waited
// for and nothing committed.
func (s *subscription) lost(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	parts := s.owned(taken)
	if len(parts) == 0 {
		return
	}
	s.log.Warn("lost partitions: the group went on without this member", "partitions", taken[s.topic])
	s.mu.Lock()
	for _, p := range parts {
		s.window.stop(p)
	}
	s.mu.Unlock()
	s.giveUp(context.Background(), parts, ErrRevoked, false) // nothing is asked of the broker
}

func (s *subscription) owned(taken map[string][]int32) []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []*partition
	for _, id := range taken[s.topic] {
		if p := s.window.parts[id]; p != nil {
			parts = append(parts, p)
		}
	}
	return parts
}

// giveUp ends the ownership of partitions: their acknowledgements are late from
// here on, and their last positions are committed.
func (s *subscription) giveUp(ctx context.Context, parts []*partition, cause error, commit bool) {
	// An older commit of these partitions is over when this is held; no later one
	// will name them.
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	targets := make(map[*partition]position)
	for _, p := range parts {
		if at, dirty := s.window.drop(p, cause); dirty {
			targets[p] = at
		}
	}
	s.wake()
	s.mu.Unlock()
	if commit && s.cfg.Group != "" {
		s.write(ctx, targets)
	}
}

// commitTimeout bounds a commit; two have to fit into a rebalance.
func (c SubscriberConfig) commitTimeout() time.Duration {
	return min(10*time.Second, c.Rebalance/3)
}
