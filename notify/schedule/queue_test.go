package schedule_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
	"activityfeed/notify/schedule"
)

// workerEnv makes the test binary be a worker at that Redis, which a test kills.
const workerEnv = "ACTIVITYFEED_TEST_WORKER"

func TestMain(m *testing.M) {
	if addr := os.Getenv(workerEnv); addr != "" {
		runWorker(addr)
		return
	}
	os.Exit(testenv.Main(m))
}

func newQueue(t testing.TB, client redis.UniversalClient, cfg schedule.Config, now func() time.Time) *schedule.Queue {
	t.Helper()
	cfg.Name = "test"
	q, err := schedule.New(cfg, client, now)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func texts(items [][]byte) string {
	var s []string
	for _, item := range items {
		s = append(s, string(item))
	}
	return strings.Join(s, " ")
}

// claimed returns "id[items]claims" of what is due.
func claimed(t *testing.T, q *schedule.Queue) (lines []string, jobs []schedule.Job) {
	t.Helper()
	jobs, _, err := q.Claim(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	lines = []string{}
	for _, j := range jobs {
		lines = append(lines, fmt.Sprintf("%s[%s]%d", j.ID, texts(j.Items), j.Claims))
	}
	return lines, jobs
}

func TestLifeOfAJob(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		c := testenv.NewClock(time.Now().Truncate(time.Second))
		q := newQueue(t, client, schedule.Config{Lease: 10 * time.Second}, c.Now)
		add := func(id, item string, in time.Duration, join bool) {
			t.Helper()
			if err := q.Add(t.Context(), schedule.Entry{ID: id, Due: c.Now().Add(in), Item: []byte(item), Join: join}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(name string, want ...string) []schedule.Job {
			t.Helper()
			got, jobs := claimed(t, q)
			if want == nil {
				want = []string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, claimed (-want +got):\n%s", name, diff)
			}
			return jobs
		}
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		add("a", "1", time.Second, true)
		add("a", "2", 0, true)  // joins, and leaves the time
		add("a", "3", 0, false) // is left out
		expect("a moment early")
		c.Advance(time.Second - time.Millisecond)
		expect("still early")
		c.Advance(time.Millisecond)
		first := expect("on time", "a[1 2]1")
		expect("leased")
		add("a", "4", 0, true)
		c.Advance(10 * time.Second)
		second := expect("the lease ran out", "a[1 2 4]2")
		ok(q.Done(t.Context(), first[0], c.Now())) // late: changes nothing
		add("a", "5", 0, true)
		ok(q.Later(t.Context(), second[0], c.Now().Add(time.Minute), []byte("kept")))
		ok(q.Later(t.Context(), second[0], c.Now(), []byte("twice")))
		expect("later")
		c.Advance(time.Minute)
		third := expect("after that", "a[kept 5]1")
		add("a", "6", 0, true)
		ok(q.Done(t.Context(), third[0], c.Now().Add(time.Second)))
		expect("what joined is not due yet")
		c.Advance(time.Second)
		last := expect("what joined", "a[6]1")
		ok(q.Done(t.Context(), last[0], c.Now()))
		c.Advance(time.Hour)
		expect("done")
		if n, err := q.Len(t.Context()); n != 0 || err != nil {
			t.Errorf("Len = %d, %v, want 0", n, err)
		}
		add("a", "again", 0, false)
		expect("a new job of the id", "a[again]1")
	})
}

// Many workers, some of which forget their jobs or are late: each job is done,
// none early, and nobody else has it while its lease lasts.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	client := testenv.RedisClient(t, testenv.Redis(t))
	const jobs, workers = 2000, 8
	cfg := schedule.Config{Lease: 400 * time.Millisecond, Poll: 20 * time.Millisecond}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	add := newQueue(t, client, cfg, time.Now)
	due := map[string]time.Time{}
	for i := range jobs {
		id := "job" + strconv.Itoa(i)
		due[id] = time.Now().Add(time.Duration(rnd.IntN(1000)) * time.Millisecond).Truncate(time.Millisecond)
		if err := add.Add(t.Context(), schedule.Entry{ID: id, Due: due[id], Item: []byte(id)}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	done, until := map[string]int{}, map[string]int64{}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for w := range workers {
		// When a worker claims, it looks at the clock once and works before it looks again:
		// however long it takes until then, that is when the leases began.
		var now time.Time
		q := newQueue(t, client, cfg, func() time.Time { now = time.Now(); return now })
		rnd := rand.New(rand.NewPCG(seed, uint64(w+1)))
		group.Go(func() {
			q.Run(ctx, 10, 5, 0, testenv.Logger(t), func(ctx context.Context, claimed []schedule.Job, release func()) {
				for _, j := range claimed {
					mu.Lock()
					if early := due[j.ID].UnixMilli() - now.UnixMilli(); early > 0 {
						t.Errorf("%s came %d ms early", j.ID, early)
					}
					if left := until[j.ID] - now.UnixMilli(); left > 0 {
						t.Errorf("%s came while its lease lasts for %d ms", j.ID, left)
					}
					forget := done[j.ID] == 0 && rnd.IntN(5) == 0
					if forget {
						until[j.ID] = now.Add(cfg.Lease).UnixMilli()
					} else {
						done[j.ID]++
					}
					all := len(done) == jobs
					mu.Unlock()
					if !forget {
						if err := q.Done(ctx, j, now); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
					}
					release()
					if all {
						cancel()
					}
				}
			})
		})
	}
	group.Wait()
	if len(done) != jobs {
		t.Errorf("%d jobs were done, want %d", len(done), jobs)
	}
}

// Workers of their own processes are killed in mid work, and so is Redis, which
// comes back from its file: every job is done.
func TestKilledWorkersAndRedisLoseNothing(t *testing.T) {
	dir := t.TempDir()
	// What Redis has answered it has to have on disk: that is a setting of Redis,
	// not of ours, and what is lost without it is the last second.
	settings := map[string]string{"appendfsync": "always"}
	server := testenv.RedisServer(t, embedded.RedisConfig{Dir: dir, Settings: settings})
	addr := server.Addr()
	port, _ := strconv.Atoi(addr[strings.LastIndex(addr, ":")+1:])
	client := testenv.RedisClient(t, addr)
	q := newQueue(t, client, schedule.Config{}, time.Now)
	const jobs = 600
	for i := range jobs {
		id := "job" + strconv.Itoa(i)
		if err := q.Add(t.Context(), schedule.Entry{ID: id, Due: time.Now().Add(time.Duration(i) * 3 * time.Millisecond), Item: []byte(id)}); err != nil {
			t.Fatal(err)
		}
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerEnv+"="+addr)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	count := func() int {
		n, _ := client.SCard(t.Context(), "done").Result()
		return int(n)
	}
	worker := start()
	start()
	for _, at := range []int{100, 250, 400} {
		testenv.Await(t, fmt.Sprintf("%d jobs", at), func() bool { return count() >= at })
		_ = worker.Process.Kill()
		_ = worker.Wait()
		if at == 250 {
			_ = server.Close() // SIGTERM saves; what matters is that it is away
			server = testenv.RedisServer(t, embedded.RedisConfig{Dir: dir, Port: port, Settings: settings})
		}
		worker = start()
	}
	testenv.Await(t, "all jobs", func() bool { return count() == jobs })
	testenv.Await(t, "an empty queue", func() bool { n, err := q.Len(t.Context()); return err == nil && n == 0 })
	repeats, _ := client.Get(t.Context(), "repeats").Int()
	t.Logf("%d jobs done, %d of them repeated", jobs, repeats)
}

// runWorker works until it is killed: it notes each job, waits a little, settles.
func runWorker(addr string) {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	q, err := schedule.New(schedule.Config{Name: "test", Lease: 500 * time.Millisecond, Poll: 20 * time.Millisecond}, client, time.Now)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	q.Run(ctx, 8, 4, 0, slog.New(slog.DiscardHandler), func(ctx context.Context, jobs []schedule.Job, release func()) {
		for _, j := range jobs {
			go func() {
				defer release()
				added, err := client.SAdd(ctx, "done", j.ID).Result()
				if err != nil {
					return
				}
				if added == 0 {
					client.Incr(ctx, "repeats")
				}
				time.Sleep(5 * time.Millisecond) // the work during which it is killed
				_ = q.Done(ctx, j, time.Now())
			}()
		}
	})
}
