package kafka_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv/apachekafka"
)

// realBrokers are the addresses of an Apache Kafka, if the tests run against one.
var realBrokers []string

func TestMain(m *testing.M) {
	flag.Parse()
	if addr := os.Getenv(brokerEnv); addr != "" {
		os.Exit(runBroker(addr))
	}
	// These tests wait more than they compute: for sessions to end, for pauses to
	// pass. More of them run at once than there are processors; fewer where a broker
	// writes hundreds of topics to a disk.
	parallel := "12"
	if os.Getenv(apachekafka.JarsEnv) != "" {
		parallel = "4"
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	jars := os.Getenv(apachekafka.JarsEnv)
	if jars == "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "apachekafka")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := apachekafka.Start(ctx, apachekafka.Config{Jars: jars, Dir: dir}, slog.Default())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer node.Close()
	realBrokers = node.Brokers()
	return m.Run()
}

// cluster is the log that a test runs against.
type cluster struct {
	brokers []string
	// fake is the kfake cluster, nil on Apache Kafka.
	fake *kfake.Cluster
}

// newCluster gives a test Apache Kafka if there is one, else a kfake of its own.
// Time is real in both: the client waits for joins in a lock, which a bubble of
// virtual time never gets past.
func newCluster(t *testing.T) cluster {
	t.Helper()
	if realBrokers != nil {
		return cluster{brokers: realBrokers}
	}
	return newFakeCluster(t)
}

// newFakeCluster gives a test a kfake of its own, for what no broker does when asked.
func newFakeCluster(t *testing.T) cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return cluster{brokers: fake.ListenAddrs(), fake: fake}
}

// client returns a plain client, for what a test does to the log by itself.
func (c cluster) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic makes a topic of the test's name.
func (c cluster) topic(t *testing.T, client *kgo.Client, partitions int32) string {
	t.Helper()
	name := "topic-" + watermill.NewShortUUID()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// cable is a network connection that a test can cut: what hangs on it can reach
// nobody from then on, as if its process had been killed.
type cable struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (c *cable) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		_ = conn.Close()
		// As of a real network, so that the client takes it for an outage.
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the cable is cut")}
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func (c *cable) mended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// evict takes all members out of a group, as the broker does with those that were
// silent for a session: a test that kills a member need not wait for that.
func (c cluster) evict(t *testing.T, group string) {
	t.Helper()
	client := c.client(t)
	described, err := kadm.NewClient(client).DescribeGroups(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, member := range described[group].Members {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = member.MemberID
		leave.Members = append(leave.Members, one)
	}
	if len(leave.Members) == 0 {
		t.Fatal("the group has no members")
	}
	if _, err := leave.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

// testLog shows what goes wrong and nothing else.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// admin returns an Admin in the test's network.
func (c cluster) admin(t *testing.T) *kafka.Admin {
	t.Helper()
	return kafka.AdminOf(c.client(t))
}
