package analytics

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/embedded"
	"activityfeed/internal/rebuild"
	"activityfeed/internal/testenv"
)

// The sink and the views over two servers, each shard with one copy. With Keeper the
// same files say Replicated and ON CLUSTER (schema_cluster.sql); the embedded engine
// cannot run that, even beside a ZooKeeper: in its local mode it has no Keeper of its
// own, refuses ON CLUSTER ("Replicated DDL queries are disabled", code 392), and makes
// replicated tables but keeps them read-only, because it opens no port for other
// replicas (code 139).
func TestTwoShards(t *testing.T) {
	t.Parallel()
	var shards []embedded.ClickHouseShard
	for range 2 {
		shards = append(shards, embedded.ClickHouseShard{Host: "127.0.0.1", Port: testenv.FreePort(t), Password: "secret"})
	}
	var addrs []string
	for _, shard := range shards {
		server := testenv.ClickHouseServer(t, embedded.ClickHouseConfig{TCPPort: shard.Port, Password: shard.Password, Shards: shards})
		addrs = append(addrs, server.Addr())
	}
	cfg := Config{
		Addr: strings.Join(addrs, ","), Username: embedded.ClickHouseUser, Password: "secret",
		Cluster: embedded.ClickHouseCluster, Unreplicated: true,
	}.withDefaults()
	brokers := newLog(t)
	publish(t, brokers, manyPhotos(0, 999)...)
	publish(t, brokers, follow(1000, "bob", "ann"), follow(1001, "cyd", "ann"), follow(1002, "bob", "ann"))
	r := run(t, cfg, brokers)
	await(t, "1003 rows", r.store.reached(1003))
	r.close()

	var local []int
	for _, shard := range shards {
		one := cfg
		one.Addr = "127.0.0.1:" + strconv.Itoa(shard.Port)
		table := connect(t, one)
		local = append(local, table.count("SELECT count() FROM {db}.events_local"))
		for _, tt := range []struct {
			sql  string
			want []string
		}{
			{"SELECT event_type, sum(events) FROM {db}.posts_daily GROUP BY 1 ORDER BY 1", []string{"PhotoPosted 1000", "UserFollowed 3"}},
			{"SELECT sum(posts) FROM {db}.top_authors", []string{"1000"}},
			{"SELECT uniqExact(event_id), count() FROM {db}.events", []string{"1003 1003"}},
			{"SELECT author_id, sum(gained), max(followers) FROM {db}.follower_growth GROUP BY author_id", []string{"ann 2 2"}},
			{"SELECT countIf(original != ''), countIf(log_id = ''), uniqExact(log_id) FROM {db}.events", []string{"1000 0 1"}},
			{"SELECT sum(posts) FROM {db}.feed_freshness", []string{"0"}},
			{"SELECT max(people) FROM {db}.retention", []string{"42"}},
		} {
			if diff := cmp.Diff(tt.want, table.lines(tt.sql)); diff != "" {
				t.Errorf("on %s: %s (-want +got):\n%s", one.Addr, tt.sql, diff)
			}
		}
		for _, q := range Questions() {
			table.lines("SELECT * FROM {db}." + q.Name)
		}
	}
	// Some rows are lost on one of them: they come back to where they were.
	broken := cfg
	broken.Addr = addrs[1]
	connect(t, broken).exec("ALTER TABLE {db}.events_local DELETE WHERE event_id % 3 = 0 SETTINGS mutations_sync = 2")
	if _, err := refillEvents(t, cfg, brokers, nil); err != nil {
		t.Errorf("rebuild over two shards: %v", err)
	}
	// The same rows, of which the log has forgotten most.
	forget(t, brokers, 3)
	if _, err := refillEvents(t, cfg, brokers, func(deps *rebuild.RefillDeps) { deps.NotInLog = rebuild.Keep }); err != nil {
		t.Errorf("rebuild over two shards from a short log: %v", err)
	}
	for i, addr := range addrs {
		one := cfg
		one.Addr = addr
		if got := connect(t, one).count("SELECT count() FROM {db}.events_local"); got != local[i] {
			t.Errorf("shard %d has %d rows after a rebuild, want %d", i, got, local[i])
		}
		if left := connect(t, one).lines("SELECT name FROM system.tables WHERE database = '{db}' AND name LIKE '%rebuild%'"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if local[0] == 0 || local[1] == 0 || local[0]+local[1] != 1003 {
		t.Errorf("the shards hold %v rows, want some on each, 1003 in all", local)
	}
}
