package analytics

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/delivery"
	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

var crashSeed = flag.Uint64("crash.seed", 0, "seed of TestCrashesCountOnce; 0 draws one")

// crashes is one run: a log that grows, a ClickHouse, and what the log holds.
type crashes struct {
	t       *testing.T
	rng     *rand.Rand
	brokers []string
	server  embedded.ClickHouseConfig
	engine  *embedded.ClickHouse
	cfg     Config
	n       int

	// The ledger: what is on the log.
	events map[string]int
	// edges and growth are what follower_growth must come to.
	edges   map[[2]string]bool
	fanouts int
}

// Whatever happens between the log and the table, every type's count and every
// rollup equal the log's in the end. Run it often:
//
//	go test ./analytics -run Crashes -count=20
func TestCrashesCountOnce(t *testing.T) {
	t.Parallel()
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (again: go test ./analytics -run Crashes -crash.seed=%d)", seed, seed)
	port := testenv.FreePort(t)
	c := &crashes{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), brokers: newLog(t),
		server: embedded.ClickHouseConfig{Dir: t.TempDir(), TCPPort: port, Password: "secret"},
		events: map[string]int{}, edges: map[[2]string]bool{},
	}
	c.engine = testenv.ClickHouseServer(t, c.server)
	c.cfg = Config{Addr: "127.0.0.1:" + strconv.Itoa(port), Username: embedded.ClickHouseUser, Password: "secret", InsertTimeout: 3 * time.Second, Gather: 50 * time.Millisecond}.withDefaults()

	steps := []struct {
		name string
		do   func()
	}{
		{"kill before an insert", func() { c.die(childSpec{Before: true}) }},
		{"kill during an insert", func() { c.die(childSpec{During: true}) }},
		{"kill after an insert, before the commit", func() { c.die(childSpec{}) }},
		{"kill at any moment", c.killAnyMoment},
		{"rebalance", c.rebalance},
		{"ClickHouse stops", c.outage},
		{"answers get lost", c.lostAnswers},
		{"the whole topic again", c.replay},
	}
	// Each once, in any order, and some twice.
	order := c.rng.Perm(len(steps))
	order = append(order, c.rng.Perm(len(steps))[:2]...)
	for _, i := range order {
		c.publish(150 + c.rng.IntN(300))
		t.Logf("%d events on the log; now: %s", c.n, steps[i].name)
		steps[i].do()
	}
	c.finish(Service)
	c.compare()
}

// publish puts n facts of all kinds on the log, and reports of some.
func (c *crashes) publish(n int) {
	c.t.Helper()
	var all []event.Event
	var reports []delivery.Fact
	for range n {
		all = append(all, c.event())
		if posted, ok := all[len(all)-1].Data.(*pb.PhotoPosted); ok {
			e := all[len(all)-1]
			reports = append(reports, delivery.Fanout("feed", e.ID, e.Time, posted.GetPhoto(), c.rng.IntN(2000), 1, e.Time.Add(time.Millisecond)))
			c.fanouts++
		}
	}
	publish(c.t, c.brokers, all...)
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: c.brokers}, testenv.Logger(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	defer publisher.Close()
	for _, f := range reports {
		msg, err := delivery.Encode(f, "//test")
		if err != nil {
			c.t.Fatal(err)
		}
		// The topic holds reports at least once.
		for range 1 + c.rng.IntN(2) {
			if err := publisher.Publish(delivery.Topic, msg); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func (c *crashes) event() event.Event {
	user, other := "user"+strconv.Itoa(c.rng.IntN(30)), "user"+strconv.Itoa(30+c.rng.IntN(30))
	data := []func() proto.Message{
		func() proto.Message { return photo(c.n, user).Data },
		func() proto.Message {
			return &pb.PhotoDeleted{AuthorId: user, PostId: event.FirstID(day.Add(time.Duration(c.n) * time.Millisecond)).String()}
		},
		func() proto.Message { c.edges[[2]string{user, other}] = true; return follow(c.n, user, other).Data },
		func() proto.Message {
			c.edges[[2]string{user, other}] = false
			return &pb.UserUnfollowed{FollowerId: user, FolloweeId: other}
		},
		func() proto.Message { return &pb.UserBlocked{ActorId: user, TargetId: other} },
		func() proto.Message { return &pb.UserUnblocked{ActorId: user, TargetId: other} },
		func() proto.Message { return &pb.UserMuted{ActorId: user, TargetId: other} },
		func() proto.Message { return &pb.UserUnmuted{ActorId: user, TargetId: other} },
	}[c.rng.IntN(8)]()
	e := eventN(c.n, data)
	c.n++
	c.events[e.Type()]++
	return e
}

// die kills a process of ours at one of its first inserts.
func (c *crashes) die(spec childSpec) {
	c.t.Helper()
	spec.Config, spec.Brokers, spec.Insert = c.cfg, c.brokers, int32(1+c.rng.IntN(2))
	c.t.Logf("  at insert %d", spec.Insert)
	die(c.t, spec)
	evict(c.t, c.brokers)
}

// killAnyMoment kills a process of ours from outside.
func (c *crashes) killAnyMoment() {
	c.t.Helper()
	after := time.Duration(c.rng.IntN(1500)) * time.Millisecond
	c.t.Logf("  after %v", after)
	ctx, cancel := context.WithTimeout(c.t.Context(), after) // ends in SIGKILL
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+specText(c.t, childSpec{Config: c.cfg, Brokers: c.brokers, Insert: -1}))
	if out, err := child.CombinedOutput(); ctx.Err() == nil {
		c.t.Fatalf("the child ended with %v:\n%s", err, out)
	}
	evict(c.t, c.brokers)
}

// evict takes a process that was killed out of its groups, as a broker does when the
// session is over. The broker of these tests keeps one that died between joining and
// its first sign of life for ever, with its partitions.
func evict(t *testing.T, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	groups := []string{Service, Service + ".deliveries", event.RetryTopic(Service)}
	for left := 1; left > 0; {
		described, err := kadm.NewClient(client).DescribeGroups(ctx, groups...)
		if err != nil {
			t.Fatalf("describe groups: %v", err)
		}
		left = 0
		for _, group := range described {
			left += len(group.Members)
			for _, member := range group.Members {
				leave := kmsg.NewPtrLeaveGroupRequest()
				leave.Group = group.Group
				one := kmsg.NewLeaveGroupRequestMember()
				one.MemberID = member.MemberID
				leave.Members, leave.MemberID = append(leave.Members, one), member.MemberID
				if _, err := leave.RequestWith(ctx, client); err != nil {
					t.Fatalf("leave %s: %v", group.Group, err)
				}
			}
		}
	}
}

// rebalance lets consumers come and go.
func (c *crashes) rebalance() {
	c.t.Helper()
	first := c.consume(Service, c.cfg)
	second := c.consume(Service, c.cfg)
	c.publish(200)
	time.Sleep(time.Duration(c.rng.IntN(400)) * time.Millisecond) // a moment of the rebalance, any
	first.close()
	third := c.consume(Service, c.cfg)
	time.Sleep(time.Duration(c.rng.IntN(400)) * time.Millisecond)
	second.close()
	third.close()
}

// outage stops ClickHouse under a consumer at work.
func (c *crashes) outage() {
	c.t.Helper()
	r := c.consume(Service, c.cfg)
	time.Sleep(time.Duration(c.rng.IntN(300)) * time.Millisecond) // with a batch under way, or not
	_ = c.engine.Close()
	c.publish(200)
	time.Sleep(time.Second) // long enough for tries to fail and the breaker to open
	c.engine = testenv.ClickHouseServer(c.t, c.server)
	r.close()
}

// lostAnswers breaks connections after the rows went through.
func (c *crashes) lostAnswers() {
	c.t.Helper()
	proxy := newMuteProxy(c.t, c.cfg.Addr)
	cfg := c.cfg
	cfg.Addr = proxy.addr
	r := c.consume(Service, cfg)
	for range 3 {
		proxy.mute.Store(true)
		c.publish(100)
		time.Sleep(time.Duration(50+c.rng.IntN(300)) * time.Millisecond) // some inserts are in, and unanswered
		proxy.cut()
		proxy.mute.Store(false)
		time.Sleep(time.Duration(c.rng.IntN(300)) * time.Millisecond)
	}
	r.close()
}

// replay reads the whole log again, in batches cut otherwise.
func (c *crashes) replay() {
	c.t.Helper()
	// A replay would bring back what was lost before it: so first the comparison.
	c.finish(Service)
	c.compare()
	c.finish(fmt.Sprintf("replay-%d", c.n))
}

// consume runs the sink of both topics as a group.
func (c *crashes) consume(group string, cfg Config) *crashRun {
	c.t.Helper()
	a, err := newAnalyticsIn(group, cfg, c.brokers, testenv.Logger(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &crashRun{t: c.t, stop: stop}
	r.ended.Go(func() {
		if err := a.Run(ctx); err != nil {
			c.t.Errorf("Run = %v", err)
		}
	})
	c.t.Cleanup(r.close)
	return r
}

// crashRun is a consumer at work.
type crashRun struct {
	t     *testing.T
	stop  context.CancelFunc
	ended sync.WaitGroup
}

func (r *crashRun) close() { r.stop(); r.ended.Wait() }

// finish runs a group until it has done everything on the log.
func (c *crashes) finish(group string) {
	c.t.Helper()
	r := c.consume(group, c.cfg)
	defer r.close()
	admin, err := kafka.NewAdmin(c.brokers)
	if err != nil {
		c.t.Fatal(err)
	}
	defer admin.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		left, err := admin.Lag(c.t.Context(), group, event.Topic)
		more, err2 := admin.Lag(c.t.Context(), group+".deliveries", delivery.Topic)
		if err == nil && err2 == nil && left+more == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d events and %d reports wait after %v (%v, %v)", left, more, patience, err, err2)
		}
	}
}

// compare holds the tables and views to the ledger.
func (c *crashes) compare() {
	c.t.Helper()
	table := connect(c.t, c.cfg)
	var want []string
	for _, kind := range slices.Sorted(maps.Keys(c.events)) {
		want = append(want, fmt.Sprintf("%s %d", kind, c.events[kind]))
	}
	followers := map[string]int{}
	for edge, set := range c.edges {
		if set {
			followers[edge[1]]++
		}
	}
	var growth []string
	for _, author := range slices.Sorted(maps.Keys(followers)) {
		growth = append(growth, fmt.Sprintf("%s %d", author, followers[author]))
	}
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{"SELECT event_type, uniqExact(event_id) FROM {db}.events GROUP BY 1 ORDER BY 1", want},
		{"SELECT event_type, count() FROM {db}.events FINAL GROUP BY 1 ORDER BY 1", want},
		{"SELECT event_type, sum(events) FROM {db}.posts_daily GROUP BY 1 ORDER BY 1", want},
		{"SELECT sum(posts) FROM {db}.top_authors", []string{strconv.Itoa(c.events["PhotoPosted"])}},
		{"SELECT author_id, sum(gained) - sum(lost) AS n FROM {db}.follower_growth GROUP BY 1 HAVING n != 0 ORDER BY 1", growth},
		{"SELECT sum(posts) FROM {db}.feed_freshness", []string{strconv.Itoa(c.fanouts)}},
	} {
		if diff := cmp.Diff(tt.want, table.lines(tt.sql)); diff != "" {
			c.t.Errorf("%s (-log +table):\n%s", tt.sql, diff)
		}
	}
	if got := poisoned(c.t, c.brokers); got != 0 {
		c.t.Errorf("%d letters, want none", got)
	}
	rows := table.count("SELECT count() FROM {db}.events")
	c.t.Logf("%d events in %d rows, %d fan-outs", c.n, rows, c.fanouts)
}

// newAnalyticsIn is newAnalytics as another group, with the reports.
func newAnalyticsIn(group string, cfg Config, brokers []string, log *slog.Logger) (*Analytics, error) {
	a, err := newAnalyticsAs(group, cfg, brokers, log)
	if err != nil {
		return nil, err
	}
	a.deps.DeliverySubscriber, err = testGroup(brokers, log, group+".deliveries", &kafka.BatchConfig{MaxRecords: 100, MaxWait: 20 * time.Millisecond})
	return a, err
}
