package schedule

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
	"activityfeed/internal/redispipe"
)

var (
	//go:embed lua/add.lua
	addSource string
	//go:embed lua/claim.lua
	claimSource string
	//go:embed lua/settle.lua
	settleSource string

	addScript    = redispipe.NewScript(addSource)
	claimScript  = redispipe.NewScript(claimSource)
	settleScript = redispipe.NewScript(settleSource)
)

// Config sets up a [Queue].
type Config struct {
	// Name names the queue in its keys. Required.
	Name string
	// Shards is over how many hash tags it spreads. All processes must agree on it:
	// jobs of shards above it are not seen. Default 4.
	Shards int
	// Lease is how long a worker may take to settle a job. Default 1 minute.
	Lease time.Duration
	// Poll is how often to look for jobs that other processes added. Default 500 ms.
	Poll time.Duration
	// MaxBody is how large a body may become by joining, in bytes; what is above it
	// does not join. Default 16 KiB.
	MaxBody int
	// Timeout bounds one call to Redis. Default 3 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Shards <= 0 {
		c.Shards = 4
	}
	if c.Lease <= 0 {
		c.Lease = time.Minute
	}
	if c.Poll <= 0 {
		c.Poll = 500 * time.Millisecond
	}
	if c.MaxBody <= 0 {
		c.MaxBody = 16 << 10
	}
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	return c
}

// Queue is one queue of jobs. It is safe for concurrent use, by any number of
// processes.
type Queue struct {
	cfg  Config
	pipe *redispipe.Pipe
	now  func() time.Time

	// token makes the leases of this process: its prefix is random, so that no
	// other process has the same.
	prefix string
	leases atomic.Uint64
	// added wakes Run; it holds one token.
	added chan struct{}
	// shard is where the next claim begins, so that no shard waits for the others.
	shard atomic.Uint32
}

// New returns a Queue; it does not talk to Redis. The client must be opened with
// ContextTimeoutEnabled.
func New(cfg Config, client redis.UniversalClient, now func() time.Time) (*Queue, error) {
	if cfg.Name == "" || client == nil || now == nil {
		return nil, errors.New("schedule: a queue needs a name, a client and a clock")
	}
	cfg = cfg.withDefaults()
	return &Queue{
		cfg:    cfg,
		pipe:   redispipe.New(client, cfg.Timeout, addScript, claimScript, settleScript),
		now:    now,
		prefix: strconv.FormatUint(rand.Uint64(), 36) + "-",
		added:  make(chan struct{}, 1),
	}, nil
}

// Entry is a job to be added, see [Queue.Add].
type Entry struct {
	// ID names the job: letters of [A-Za-z0-9_.:|-], no secrets.
	ID string
	// Due is when it is to be done.
	Due time.Time
	// Item is what has to be known for it.
	Item []byte
	// Join says that the item is added to a job of this id that is there already,
	// which keeps its time. Otherwise the entry is left out.
	Join bool
}

// Add adds jobs. When it fails some may have been added; to add them again is
// right, if their items may be repeated.
func (q *Queue) Add(ctx context.Context, entries ...Entry) error {
	cmds := make([]redis.Cmder, len(entries))
	for i, e := range entries {
		keys := q.keys(shardOf(e.ID, q.cfg.Shards))
		join := "0"
		if e.Join {
			join = "1"
		}
		cmds[i] = addScript.Int(ctx, keys[:2], e.ID, e.Due.UnixMilli(), frame(e.Item), join, q.cfg.MaxBody)
	}
	if err := q.pipe.Exec(ctx, cmds...); err != nil {
		return redisfault.Of(err, "schedule %d jobs in %s", len(entries), q.cfg.Name)
	}
	select {
	case q.added <- struct{}{}:
	default:
	}
	return nil
}

// Job is a job that is leased to the caller, who settles it with Done or Later.
type Job struct {
	ID string
	// Items are what was added, in that order; items may be there twice.
	Items [][]byte
	// Claims counts the leases in a row that were not settled, this one included:
	// above 1, workers died or were late over it.
	Claims int

	shard int
	size  int
	token string
}

// Claim leases at most n jobs that are due, and tells when it pays to ask again:
// now, if there may be more.
func (q *Queue) Claim(ctx context.Context, n int) (jobs []Job, next time.Time, err error) {
	now := q.now()
	next = now.Add(q.cfg.Poll)
	first := int(q.shard.Add(1))
	for i := range q.cfg.Shards {
		left := n - len(jobs)
		if left <= 0 {
			return jobs, now, nil
		}
		got, due, err := q.claim(ctx, (first+i)%q.cfg.Shards, left, now)
		if err != nil {
			return jobs, next, err
		}
		jobs = append(jobs, got...)
		if !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	return jobs, next, nil
}

func (q *Queue) claim(ctx context.Context, shard, n int, now time.Time) (jobs []Job, next time.Time, err error) {
	token := q.prefix + strconv.FormatUint(q.leases.Add(1), 36)
	cmd := claimScript.Slice(ctx, q.keys(shard), now.UnixMilli(), n, now.Add(q.cfg.Lease).UnixMilli(), token)
	if err := q.pipe.Exec(ctx, cmd); err != nil {
		return nil, time.Time{}, redisfault.Of(err, "claim jobs of %s", q.cfg.Name)
	}
	answer := cmd.Val()
	if len(answer) == 0 {
		return nil, time.Time{}, fmt.Errorf("claim jobs of %s: empty answer", q.cfg.Name)
	}
	if text, _ := answer[0].(string); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("claim jobs of %s: due %q", q.cfg.Name, text)
		}
		next = time.UnixMilli(int64(ms))
	}
	for fields := answer[1:]; len(fields) >= 3; fields = fields[3:] {
		id, _ := fields[0].(string)
		body, _ := fields[1].(string)
		claims, _ := fields[2].(int64)
		jobs = append(jobs, Job{
			ID: id, Items: unframe(body), Claims: int(claims), shard: shard, size: len(body), token: token,
		})
	}
	return jobs, next, nil
}

// Done ends a job. What joined since it was claimed is due at again.
func (q *Queue) Done(ctx context.Context, job Job, again time.Time) error {
	return q.settle(ctx, job, again, "1", nil)
}

// Later gives a job back until due, with these items in place of those it was
// claimed with.
func (q *Queue) Later(ctx context.Context, job Job, due time.Time, items ...[]byte) error {
	var kept []byte
	for _, item := range items {
		kept = append(kept, frame(item)...)
	}
	return q.settle(ctx, job, due, "0", kept)
}

func (q *Queue) settle(ctx context.Context, job Job, due time.Time, done string, kept []byte) error {
	cmd := settleScript.Int(ctx, q.keys(job.shard), job.ID, job.token, job.size, due.UnixMilli(), done, kept)
	return redisfault.Of(q.pipe.Exec(ctx, cmd), "settle a job of %s", q.cfg.Name)
}

// Len returns how many jobs wait or are being done.
func (q *Queue) Len(ctx context.Context) (int, error) {
	cmds := make([]redis.Cmder, q.cfg.Shards)
	for shard := range cmds {
		cmds[shard] = redis.NewIntCmd(ctx, "zcard", q.keys(shard)[0])
	}
	if err := q.pipe.Exec(ctx, cmds...); err != nil {
		return 0, redisfault.Of(err, "count the jobs of %s", q.cfg.Name)
	}
	n := 0
	for _, cmd := range cmds {
		n += int(cmd.(*redis.IntCmd).Val()) //nolint:forcetypeassert // made above
	}
	return n, nil
}

// keys returns due, body and lease of a shard.
func (q *Queue) keys(shard int) []string {
	base := "notify:jobs:{" + q.cfg.Name + ":" + strconv.Itoa(shard) + "}:"
	return []string{base + "due", base + "body", base + "lease"}
}

func shardOf(id string, shards int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % uint32(shards))
}

// frame puts the length before an item, so that items can be joined.
func frame(item []byte) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, len(item)+3), uint64(len(item))), item...)
}

func unframe(body string) [][]byte {
	var items [][]byte
	b := []byte(body)
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			break
		}
		items = append(items, b[used:used+int(n)])
		b = b[used+int(n):]
	}
	return items
}
