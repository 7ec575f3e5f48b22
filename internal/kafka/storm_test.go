package kafka_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/kafka"
)

var seedFlag = flag.Uint64("storm.seed", 0, "run the storms with this seed alone")

// storm is one run: records come while members join, leave and die.
type storm struct {
	cluster

	t      *testing.T
	ledger *ledger
	rng    *rand.Rand // for the plan; handlers have their own
	cfg    kafka.SubscriberConfig
	topic  string
	group  string
	handle handler

	members []*member
	gone    []*member // killed ones, put away at the end
	joined  int
	ending  sync.WaitGroup
}

// stormSeeds are fixed, so that a run can be had again, and one that changes.
func stormSeeds(t *testing.T) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	now := uint64(time.Now().UnixNano())
	if realBrokers != nil {
		return []uint64{now}
	}
	return []uint64{1, now}
}

func TestStorm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		batch *kafka.BatchConfig
	}{
		{"records", nil},
		{"batches", &kafka.BatchConfig{MaxRecords: 40, MaxWait: 50 * time.Millisecond}},
	} {
		for _, seed := range stormSeeds(t) {
			t.Run(fmt.Sprintf("%s/seed %d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				runStorm(t, newCluster(t), seed, tt.batch)
			})
		}
	}
}

func runStorm(t *testing.T, c cluster, seed uint64, batch *kafka.BatchConfig) {
	t.Logf("seed %d (run again with -storm.seed)", seed)
	const partitions, steps, pause = 8, 80, 500 * time.Millisecond
	client := c.client(t)
	s := &storm{
		cluster: c,
		t:       t,
		ledger:  newLedger(),
		rng:     rand.New(rand.NewPCG(seed, 1)),
		topic:   c.topic(t, client, partitions),
		cfg: kafka.SubscriberConfig{
			MaxInFlight:    32,
			MaxTracked:     200,
			NackBackoff:    5 * time.Millisecond,
			MaxNackBackoff: 50 * time.Millisecond,
			Drain:          300 * time.Millisecond,
			Session:        2 * time.Second,
			Heartbeat:      200 * time.Millisecond,
			Rebalance:      6 * time.Second,
			CommitInterval: 50 * time.Millisecond,
			Batch:          batch,
		},
	}
	s.group = "group-" + s.topic
	s.cfg.Group = s.group
	s.handle = moody(s.ledger, rand.New(rand.NewPCG(seed, 2)), new(sync.Mutex), time.Second)
	if c.fake != nil {
		s.ledger.watch(c.fake)
	}
	admin := c.admin(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			if err := s.ledger.poll(ctx, admin, s.group, s.topic); err != nil {
				t.Log(err)
			}
			sleep(ctx, 5*time.Millisecond)
		}
	})

	end := make(map[int32]int64)
	s.join()
	for range steps {
		s.produce(client, 60, partitions, end)
		sleep(ctx, time.Duration(s.rng.Int64N(int64(pause))))
		s.step()
	}
	// After the storm, one who just works has to come to an end with it.
	s.handle = steady(s.ledger)
	last := s.join()
	for _, m := range s.members {
		if m != last {
			s.ending.Go(m.leave)
		}
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); sleep(ctx, 50*time.Millisecond) {
		if s.ledger.unhandled(end) == 0 && s.ledger.allCommitted(end) {
			break
		}
	}
	if n := s.ledger.unhandled(end); n > 0 {
		t.Errorf("%d records were never handled", n)
	}
	last.leave()
	for _, m := range s.gone {
		s.ending.Go(m.leave)
	}
	s.ending.Wait()
	cancel()
	watching.Wait()
	if err := s.ledger.poll(context.Background(), admin, s.group, s.topic); err != nil {
		t.Error(err)
	}
	if !s.ledger.allCommitted(end) {
		t.Errorf("committed %v at the end, want %v", s.ledger.group, end)
	}
	s.ledger.report(t)
	t.Logf("%d members, %d killed", s.joined, len(s.gone))
}

// step is what happens next to the group.
func (s *storm) step() {
	switch mood := s.rng.IntN(10); {
	case mood < 2 && len(s.members) < 5:
		s.join()
	case mood == 2 && len(s.members) > 1:
		m := s.take()
		s.ending.Go(m.leave)
	case mood == 3 && len(s.members) > 1 && len(s.gone) < 4:
		m := s.take()
		m.kill()
		s.gone = append(s.gone, m)
	case mood == 4 && len(s.members) > 1:
		m := s.take()
		m.cancel() // as when a Router's context ends
		s.ending.Go(m.leave)
	}
}

func (s *storm) join() *member {
	s.joined++
	m := join(s.t, s.cluster, fmt.Sprintf("member-%d", s.joined), s.cfg, s.topic, s.handle)
	s.members = append(s.members, m)
	return m
}

func (s *storm) take() *member {
	i := s.rng.IntN(len(s.members))
	m := s.members[i]
	s.members = append(s.members[:i:i], s.members[i+1:]...)
	return m
}

// produce writes n records with keys of their partition, one in ten without.
func (s *storm) produce(client *kgo.Client, n int, partitions int32, end map[int32]int64) {
	var records []*kgo.Record
	for range n {
		r := &kgo.Record{Topic: s.topic, Partition: s.rng.Int32N(partitions), Value: []byte("x")}
		if s.rng.IntN(10) > 0 {
			r.Key = fmt.Appendf(nil, "%d/%d", r.Partition, s.rng.IntN(12))
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(s.t.Context(), records...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	for _, r := range records {
		end[r.Partition] = max(end[r.Partition], r.Offset+1)
	}
}
