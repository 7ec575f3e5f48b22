package testenv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/embedded"
)

const (
	clusterSlots = 16384
	// clusterStart bounds the forming of a cluster, clusterPoll is how often the
	// nodes are asked how far they are: gossip has no other signal.
	clusterStart = time.Minute
	clusterPoll  = 10 * time.Millisecond
)

// Cluster is a Redis Cluster on loopback: every command and script runs as on a
// large one, and a command across two hash slots is refused.
type Cluster struct{ nodes []*clusterNode }

type clusterNode struct {
	*embedded.Redis

	client *redis.Client
	bus    int
}

// RedisCluster starts a cluster of the test's own, for tests that kill its nodes:
// that many masters, and as many replicas of each. A replica takes over about a
// second after its master is gone. It takes about 2 s and keeps nothing on disk.
func RedisCluster(t testing.TB, masters, replicas int) *Cluster {
	t.Helper()
	needRedisServer(t)
	c, err := startCluster(t.Context(), t.TempDir(), masters, replicas, Logger(t))
	if err != nil {
		t.Fatalf("start a redis cluster: %v", err)
	}
	t.Cleanup(c.close)
	return c
}

// sharedCluster is the cluster of this test process. It is a package variable for
// the reason that shared is one.
var sharedCluster struct {
	start sync.Once
	dir   string
	c     *Cluster
	err   error
	// turn is held by the test that uses it.
	turn sync.Mutex
}

// SharedRedisCluster returns a client of a cluster of three masters that the tests
// of this process take in turn; each finds it empty. The package needs TestMain,
// see [Main].
func SharedRedisCluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	mustMain(t)
	needRedisServer(t)
	s := &sharedCluster
	s.start.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "activityfeed-cluster-"); s.err == nil { //nolint:usetesting // it outlives the test
			// It outlives the test that starts it, so it cannot log to that test.
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
			s.c, s.err = startCluster(context.Background(), s.dir, 3, 0, log)
		}
	})
	if s.err != nil {
		t.Fatalf("start a redis cluster: %v", s.err)
	}
	s.turn.Lock()
	t.Cleanup(s.turn.Unlock)
	client := s.c.Client(t)
	if err := client.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		return errors.Join(node.FlushAll(ctx).Err(), node.ScriptFlush(ctx).Err())
	}); err != nil {
		t.Fatalf("empty the redis cluster: %v", err)
	}
	return client
}

// closeSharedCluster ends what a test may have started.
func closeSharedCluster() {
	if sharedCluster.c != nil {
		sharedCluster.c.close()
	}
	if sharedCluster.dir != "" {
		_ = os.RemoveAll(sharedCluster.dir)
	}
}

func needRedisServer(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		need(t, "redis-server", "run `make redis`, or install it")
	}
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Client returns a client as the server opens one, closed at the test's end.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: 2 * time.Second, ReadTimeout: RedisTimeout,
		ClusterStateReloadInterval: time.Second,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// KillMaster kills the master that holds a key with SIGKILL and returns at once.
func (c *Cluster) KillMaster(t testing.TB, key string) {
	t.Helper()
	n, err := c.master(t.Context(), key)
	if err != nil {
		t.Fatalf("find the master of %s: %v", key, err)
	}
	if err := syscall.Kill(n.PID(), syscall.SIGKILL); err != nil {
		t.Fatalf("kill the master of %s: %v", key, err)
	}
	<-n.Done()
}

// AwaitMaster returns when all slots have a master that lives.
func (c *Cluster) AwaitMaster(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterStart)
	defer cancel()
	if err := c.await(ctx, c.alive(), c.failedOver); err != nil {
		t.Fatalf("wait for a failover: %v", err)
	}
}

// failedOver: the node knows a living master of every slot.
func (c *Cluster) failedOver(ctx context.Context, n *clusterNode) bool {
	shards := n.shards(ctx)
	for _, shard := range shards {
		if len(shard.Slots) > 0 && c.serving(shard) == nil {
			return false
		}
	}
	return len(shards) > 0 && covered(ctx, n)
}

// serving returns the living master of a shard, nil if there is none.
func (c *Cluster) serving(shard redis.ClusterShard) *clusterNode {
	for _, node := range shard.Nodes {
		for _, n := range c.alive() {
			if node.Role == "master" && n.Addr() == net.JoinHostPort(node.IP, strconv.FormatInt(node.Port, 10)) {
				return n
			}
		}
	}
	return nil
}

// shards returns what the node knows of the cluster, nothing if it does not say.
func (n *clusterNode) shards(ctx context.Context) []redis.ClusterShard {
	shards, err := n.client.ClusterShards(ctx).Result()
	if err != nil {
		return nil
	}
	return shards
}

// master returns the node that serves a key.
func (c *Cluster) master(ctx context.Context, key string) (*clusterNode, error) {
	asked := c.alive()[0]
	slot, err := asked.client.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	for _, shard := range asked.shards(ctx) {
		for _, r := range shard.Slots {
			if n := c.serving(shard); r.Start <= slot && slot <= r.End && n != nil {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("nobody has slot %d", slot)
}

func (c *Cluster) alive() []*clusterNode {
	var alive []*clusterNode
	for _, n := range c.nodes {
		select {
		case <-n.Done():
		default:
			alive = append(alive, n)
		}
	}
	return alive
}

func (c *Cluster) close() {
	for _, n := range c.nodes {
		_ = n.client.Close()
		_ = n.Close() // a test may have killed it
	}
}

func startCluster(ctx context.Context, dir string, masters, replicas int, log *slog.Logger) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	c := &Cluster{nodes: make([]*clusterNode, masters*(1+replicas))}
	var starting errgroup.Group
	for i := range c.nodes {
		starting.Go(func() (err error) {
			c.nodes[i], err = startNode(ctx, filepath.Join(dir, strconv.Itoa(i)), log)
			return err
		})
	}
	err := starting.Wait()
	if err == nil {
		err = c.form(ctx, masters)
	}
	if err != nil {
		for _, n := range c.nodes {
			if n != nil {
				_ = n.Close()
			}
		}
		return nil, err
	}
	return c, nil
}

func startNode(ctx context.Context, dir string, log *slog.Logger) (*clusterNode, error) {
	// The default bus port, 10,000 above the other one, may not exist.
	bus, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := embedded.StartRedis(ctx, embedded.RedisConfig{
		Dir: dir, Binary: "redis-server", NoPersist: true,
		Settings: map[string]string{
			"cluster-enabled": "yes", "cluster-port": strconv.Itoa(bus),
			"cluster-node-timeout": "1000",
			// A replica that lost its master a moment ago may always take over.
			"cluster-replica-validity-factor": "0",
			"repl-diskless-sync-delay":        "0",
		},
	}, log)
	if err != nil {
		return nil, err
	}
	return &clusterNode{server, redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true}), bus}, nil
}

// form does what `redis-cli --cluster create` does.
func (c *Cluster) form(ctx context.Context, masters int) error {
	first := c.nodes[0].client
	for i, n := range c.nodes {
		// Epochs of their own spare the masters an election about them.
		if err := n.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return fmt.Errorf("set the epoch of node %d: %w", i, err)
		}
		if i < masters {
			if err := n.client.ClusterAddSlotsRange(ctx, i*clusterSlots/masters, (i+1)*clusterSlots/masters-1).Err(); err != nil {
				return fmt.Errorf("give node %d its slots: %w", i, err)
			}
		}
		host, port, _ := net.SplitHostPort(n.Addr())
		if err := first.Do(ctx, "cluster", "meet", host, port, n.bus).Err(); i > 0 && err != nil {
			return fmt.Errorf("let node %d join: %w", i, err)
		}
	}
	if err := c.await(ctx, c.nodes, c.acquainted); err != nil {
		return err
	}
	for i, n := range c.nodes[masters:] {
		id, err := c.nodes[i%masters].client.Do(ctx, "cluster", "myid").Text()
		if err == nil {
			err = n.client.ClusterReplicate(ctx, id).Err()
		}
		if err != nil {
			return fmt.Errorf("make node %d a replica: %w", masters+i, err)
		}
	}
	return errors.Join(c.await(ctx, c.nodes, covered), c.await(ctx, c.nodes[masters:], inSync))
}

// acquainted: the node knows all others and has shaken hands with them.
func (c *Cluster) acquainted(ctx context.Context, n *clusterNode) bool {
	known, err := n.client.ClusterNodes(ctx).Result()
	return err == nil && strings.Count(known, "\n") == len(c.nodes) && !strings.Contains(known, "handshake")
}

// covered: the node knows a master of every slot and serves.
func covered(ctx context.Context, n *clusterNode) bool {
	info, err := n.client.ClusterInfo(ctx).Result()
	return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:"+strconv.Itoa(clusterSlots))
}

// inSync: the replica has its master's data.
func inSync(ctx context.Context, n *clusterNode) bool {
	info, err := n.client.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up")
}

// await returns when all the nodes are so.
func (c *Cluster) await(ctx context.Context, nodes []*clusterNode, so func(context.Context, *clusterNode) bool) error {
	tick := time.NewTicker(clusterPoll)
	defer tick.Stop()
	for _, n := range nodes {
		for !so(ctx, n) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				info, _ := n.client.ClusterInfo(context.WithoutCancel(ctx)).Result()
				return fmt.Errorf("node %s: %w: %s", n.Addr(), ctx.Err(), info)
			}
		}
	}
	return nil
}
