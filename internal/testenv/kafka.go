package testenv

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Partitions is how many a topic has in [Kafka] when the test names no number.
const Partitions = 8

// Kafka starts a broker of the Kafka protocol in this process, in memory, and
// returns its address. Topics are made when a client asks for it, sessions may be
// as short as 100 ms, and opts can change or add to that.
func Kafka(t testing.TB, opts ...kfake.Opt) []string {
	t.Helper()
	return KafkaCluster(t, opts...).ListenAddrs()
}

// KafkaCluster is Kafka with the broker itself in hand, for tests that inject
// faults or look at groups.
func KafkaCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.DefaultNumPartitions(Partitions),
		kfake.AllowAutoTopicCreation(),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatalf("start the in-process broker: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}
