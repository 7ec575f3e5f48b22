package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/fault"
)

// TopicConfig says how a topic is made.
type TopicConfig struct {
	// Partitions is the number of partitions. Zero: the broker's default.
	Partitions int
	// Replicas is how many brokers hold each partition. Zero: the broker's default.
	Replicas int
	// Config are the topic's own settings ("retention.ms"). Nil: the broker's.
	Config map[string]string
}

// Admin asks the cluster about topics and groups. It is safe for concurrent use.
// Every call takes its deadline from the context.
type Admin struct {
	client *kgo.Client
	adm    *kadm.Client
	pings  sync.WaitGroup
}

// NewAdmin returns an Admin. It does not connect.
func NewAdmin(brokers []string) (*Admin, error) {
	if len(brokers) == 0 {
		return nil, errNoBrokers
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID(defaultClientID), kgo.DisableClientMetrics())
	if err != nil {
		return nil, fmt.Errorf("kafka: make admin: %w", err)
	}
	return &Admin{client: client, adm: kadm.NewClient(client)}, nil
}

// EnsureTopics makes the topics that do not exist. Topics that exist stay as they
// are, also with another number of partitions: more partitions would part the
// events of one key from the earlier ones. Topics that fail for the same cause are
// one error.
func (a *Admin) EnsureTopics(ctx context.Context, topics map[string]TopicConfig) error {
	type failure struct {
		topics []string
		err    error
	}
	var failures []*failure
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		err := ensureTopic(ctx, a.adm, topic, topics[topic])
		if err == nil {
			continue
		}
		same := slices.IndexFunc(failures, func(f *failure) bool { return f.err.Error() == err.Error() })
		if same < 0 {
			failures = append(failures, &failure{err: err})
			same = len(failures) - 1
		}
		failures[same].topics = append(failures[same].topics, topic)
	}
	var errs []error
	for _, f := range failures {
		errs = append(errs, fault.Outage("make topic "+strings.Join(f.topics, ", "), f.err))
	}
	return errors.Join(errs...)
}

func ensureTopic(ctx context.Context, adm *kadm.Client, topic string, cfg TopicConfig) error {
	partitions, replicas := int32(-1), int16(-1)
	if cfg.Partitions > 0 {
		partitions = int32(cfg.Partitions)
	}
	if cfg.Replicas > 0 {
		replicas = int16(cfg.Replicas)
	}
	config := make(map[string]*string, len(cfg.Config))
	for name, value := range cfg.Config {
		config[name] = &value
	}
	_, err := adm.CreateTopic(ctx, partitions, replicas, config, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// Lag returns how many records of the topic the group has not committed yet. A
// partition without a commit counts from its oldest record.
func (a *Admin) Lag(ctx context.Context, group, topic string) (int64, error) {
	op := fmt.Sprintf("lag of %s on %s", group, topic)
	committed, err := a.committed(ctx, group)
	if err != nil {
		return 0, fault.Outage(op, err)
	}
	start, err := offsets(a.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return 0, fault.Outage(op, err)
	}
	end, err := offsets(a.adm.ListEndOffsets(ctx, topic))
	if err != nil {
		return 0, fault.Outage(op, err)
	}
	var lag int64
	for partition, e := range end {
		from := start[partition]
		if c, ok := committed.Lookup(topic, partition); ok && c.At >= 0 {
			from = max(from, c.At)
		}
		lag += max(0, e-from)
	}
	return lag, nil
}

// Behind says whether the group has yet to commit a record before these offsets; in a
// partition that is not named, any record.
func (a *Admin) Behind(ctx context.Context, group, topic string, offsetsBefore map[int32]int64) (bool, error) {
	op := fmt.Sprintf("progress of %s on %s", group, topic)
	// The ends come first: a record that is written meanwhile is not asked for.
	end, err := offsets(a.adm.ListEndOffsets(ctx, topic))
	if err != nil {
		return false, fault.Outage(op, err)
	}
	start, err := offsets(a.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return false, fault.Outage(op, err)
	}
	committed, err := a.committed(ctx, group)
	if err != nil {
		return false, fault.Outage(op, err)
	}
	for partition, need := range end {
		if before, named := offsetsBefore[partition]; named {
			need = min(need, before)
		}
		if need <= start[partition] {
			continue
		}
		if c, ok := committed.Lookup(topic, partition); !ok || c.At < need {
			return true, nil
		}
	}
	return false, nil
}

// committed returns what a group has committed: nothing, if it does not exist yet. A
// cluster without a coordinator of the group is choosing one, a new cluster for
// seconds; the client by itself asks once.
func (a *Admin) committed(ctx context.Context, group string) (kadm.OffsetResponses, error) {
	for attempt := 1; ; attempt++ {
		committed, err := a.adm.FetchOffsets(ctx, group)
		switch {
		case errors.Is(err, kerr.GroupIDNotFound):
			return nil, nil
		case !errors.Is(err, kerr.CoordinatorNotAvailable):
			return committed, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(backoff(attempt, coordinatorRetry, maxCoordinatorRetry)):
		}
	}
}

// The pauses between questions for a group's coordinator.
const (
	coordinatorRetry    = 100 * time.Millisecond
	maxCoordinatorRetry = 2 * time.Second
)

// EndOffsets returns for each partition of the topic the offset that the next
// record will have.
func (a *Admin) EndOffsets(ctx context.Context, topic string) (map[int32]int64, error) {
	end, err := offsets(a.adm.ListEndOffsets(ctx, topic))
	if err != nil {
		return nil, fault.Outage("end offsets of "+topic, err)
	}
	return end, nil
}

// StartOffsets returns for each partition of the topic the offset of its oldest
// record; where there is none, that of the next.
func (a *Admin) StartOffsets(ctx context.Context, topic string) (map[int32]int64, error) {
	start, err := offsets(a.adm.ListStartOffsets(ctx, topic))
	if err != nil {
		return nil, fault.Outage("start offsets of "+topic, err)
	}
	return start, nil
}

// TopicID returns what tells a topic from one of the same name that was deleted or is
// of another broker, in hex; empty where brokers give topics no id (Kafka before 2.8).
func (a *Admin) TopicID(ctx context.Context, topic string) (string, error) {
	op := "id of " + topic
	topics, err := a.adm.ListTopics(ctx, topic)
	if err != nil {
		return "", fault.Outage(op, err)
	}
	if err := topics.Error(); err != nil {
		return "", fault.Outage(op, err)
	}
	id := topics[topic].ID
	if id == (kadm.TopicID{}) {
		return "", nil
	}
	return hex.EncodeToString(id[:]), nil
}

// Ping returns nil when a broker answers.
func (a *Admin) Ping(ctx context.Context) error {
	// The client waits ten seconds for the first answer on a connection, whatever the
	// context says: a port that is somebody else's may never give one.
	answered := make(chan error, 1)
	a.pings.Go(func() { answered <- a.client.Ping(ctx) })
	select {
	case err := <-answered:
		return fault.Outage("ping the log", err)
	case <-ctx.Done():
		return fault.Outage("ping the log", ctx.Err())
	}
}

// Close frees the Admin.
func (a *Admin) Close() {
	a.client.Close() // ends what still waits
	a.pings.Wait()
}

// offsets flattens the answer for a single topic.
func offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err != nil {
		return nil, err
	}
	if err := listed.Error(); err != nil {
		return nil, err
	}
	found := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { found[o.Partition] = o.Offset })
	return found, nil
}
