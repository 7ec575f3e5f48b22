package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Start says where a reader without a committed offset begins.
type Start int

const (
	// StartOldest begins with the oldest record that the log still has.
	StartOldest Start = iota
	// StartNewest begins with the first record written after the subscription.
	StartNewest
)

// SubscriberConfig sets up a [Subscriber].
type SubscriberConfig struct {
	// Brokers are the addresses (host:port) to find the cluster through. Required.
	Brokers []string
	// ClientID names this client in the broker's logs. Default: "activityfeed".
	ClientID string
	// Group is the consumer group. Empty: no group; every partition is read from
	// From and nothing is committed.
	Group string
	// From is where a partition without a committed offset begins. Default: oldest.
	From Start

	// MaxInFlight is how many messages may be out and unacknowledged at once, in
	// all partitions together. Default 256.
	MaxInFlight int
	// MaxTracked is how many unfinished records may be held in memory, in all
	// partitions together; at the limit nothing is polled. Twice as many records of
	// a partition may be read behind an unfinished one before the partition is
	// paused, and so replayed after a crash. Default 8192, in batch mode four
	// batches.
	MaxTracked int
	// MaxTrackedBytes limits the keys, values and headers of the unfinished
	// records, in bytes. Default 64 MiB.
	MaxTrackedBytes int

	// NackBackoff is the pause of a lane after the first nack; it doubles with each
	// further one, half of it at random. Default 100 ms.
	NackBackoff time.Duration
	// MaxNackBackoff is the longest such pause. Default 30 s.
	MaxNackBackoff time.Duration

	// Drain is how long a rebalance or a close waits for the messages in flight; a
	// rebalance waits a third of Rebalance at most. Afterwards their contexts are
	// cancelled and they are redelivered, here or elsewhere. Default 10 s.
	Drain time.Duration
	// Session is how long the group waits for a silent member. Default 20 s.
	Session time.Duration
	// Heartbeat is the time between two signs of life. Default 3 s, or a third of
	// Session if that is less.
	Heartbeat time.Duration
	// Rebalance is how long a member may take to give up partitions. Default 60 s.
	Rebalance time.Duration
	// CommitInterval is the time between two commits. Default 1 s.
	CommitInterval time.Duration

	// Partitions is how many partitions SubscribeInitialize gives a topic that does
	// not exist. Zero: as many as the broker gives.
	Partitions int

	// Batch makes each message carry a run of records. Nil: one record a message.
	Batch *BatchConfig

	// options are further options of the client; tests cut its connections.
	options []kgo.Opt
}

// BatchConfig bounds the runs of records that travel as one message, whose payload
// nobody may use once the message is acknowledged: it is used again. A batch is
// handed out when one of the limits is reached.
type BatchConfig struct {
	// MaxRecords is the largest number of records. Default 10,000.
	MaxRecords int
	// MaxBytes is the size in bytes of keys, values and headers at which a batch is
	// full; a single larger record travels alone. Default 8 MiB.
	MaxBytes int
	// MaxWait is how long the first record of a batch waits for the others.
	// Default 1 s.
	MaxWait time.Duration
	// InStep hands batches out at the multiples of MaxWait on the clock, if they are
	// not full before: those of all partitions at the same moment, so that they can
	// share what they are put into. A record then waits for half as long in the mean.
	InStep bool
}

// withDefaults fills what is zero.
func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.ClientID = cmp.Or(c.ClientID, defaultClientID)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 256)
	c.NackBackoff = cmp.Or(c.NackBackoff, 100*time.Millisecond)
	c.MaxNackBackoff = max(cmp.Or(c.MaxNackBackoff, 30*time.Second), c.NackBackoff)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	c.Session = cmp.Or(c.Session, 20*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, min(3*time.Second, c.Session/3))
	c.Rebalance = cmp.Or(c.Rebalance, time.Minute)
	c.CommitInterval = cmp.Or(c.CommitInterval, time.Second)
	if c.Batch != nil {
		b := *c.Batch
		b.MaxRecords = cmp.Or(b.MaxRecords, 10_000)
		b.MaxBytes = cmp.Or(b.MaxBytes, 8<<20)
		b.MaxWait = cmp.Or(b.MaxWait, time.Second)
		c.Batch = &b
		c.MaxTracked = cmp.Or(c.MaxTracked, 4*b.MaxRecords)
		c.MaxTrackedBytes = cmp.Or(c.MaxTrackedBytes, max(64<<20, 4*b.MaxBytes))
	}
	c.MaxTracked = cmp.Or(c.MaxTracked, 8192)
	c.MaxTrackedBytes = cmp.Or(c.MaxTrackedBytes, 64<<20)
	return c
}

// Validate returns all faults of the configuration, joined. Zero values are no
// faults.
func (c SubscriberConfig) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errNoBrokers)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxInFlight", int64(c.MaxInFlight)},
		{"MaxTracked", int64(c.MaxTracked)},
		{"MaxTrackedBytes", int64(c.MaxTrackedBytes)},
		{"NackBackoff", int64(c.NackBackoff)},
		{"MaxNackBackoff", int64(c.MaxNackBackoff)},
		{"Drain", int64(c.Drain)},
		{"Session", int64(c.Session)},
		{"Heartbeat", int64(c.Heartbeat)},
		{"Rebalance", int64(c.Rebalance)},
		{"CommitInterval", int64(c.CommitInterval)},
		{"Partitions", int64(c.Partitions)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("kafka: %s is negative", f.name))
		}
	}
	if b := c.Batch; b != nil && (b.MaxRecords < 0 || b.MaxBytes < 0 || b.MaxWait < 0) {
		errs = append(errs, errors.New("kafka: a limit of Batch is negative"))
	}
	return errors.Join(errs...)
}
