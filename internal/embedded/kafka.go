package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// When a record counts as kept.
const (
	// SyncOS: when the operating system has it. A crash or kill of the process
	// loses nothing; a power cut may lose the last seconds.
	SyncOS = "os"
	// SyncFsync: when the disk has it. A power cut loses nothing; one record at a
	// time is some 20 times slower, batches 3 times.
	SyncFsync = "fsync"
)

const (
	// segmentBytes is the size of a log file: the unit in which space comes back,
	// and of which the broker holds one a partition in memory while it loads.
	segmentBytes = 16 << 20
	// commitsKept keeps the committed offsets of a group that is away. Kafka's own
	// default forgets them after 7 days, and a system that was off for a week
	// would read everything again.
	commitsKept = 10 * 365 * 24 * time.Hour
	// minSession lets tests and impatient clients use sessions under Kafka's 6 s.
	minSession = 100 * time.Millisecond
	// adminTimeout bounds one question of ours to the broker, which is in this
	// process.
	adminTimeout = 30 * time.Second
)

// KafkaConfig says where and how the embedded log runs.
type KafkaConfig struct {
	// Dir holds the log; it is made when absent. Required.
	Dir string
	// Port is the TCP port on 127.0.0.1. 0 means a free one.
	Port int
	// Sync says when a record counts as kept: SyncOS or SyncFsync. Empty means
	// SyncOS.
	Sync string
	// Partitions is how many a topic gets when its maker names no number. 0 means 8.
	Partitions int
	// AutoCreate makes topics when a client asks for one that does not exist.
	// False means that topics are made on purpose.
	AutoCreate bool
	// MaxAge is how old a record becomes before it may be removed. 0 means that
	// everything is kept, and every projection can be rebuilt from the log.
	MaxAge time.Duration
	// Groups names, for a topic, the groups that must have passed a record before
	// it may be removed; one that has never committed holds everything. Other
	// groups count once they have committed. Nil means none.
	Groups map[string][]string
	// CleanEvery is how often old records are looked for. 0 means 1 minute.
	CleanEvery time.Duration
	// MinFree is how many bytes of disk must stay free; below that, records are
	// refused and Room says so. 0 means 256 MiB, negative switches the watch off.
	MinFree int64
	// FreeEvery is how often the disk is looked at. 0 means 1 second.
	FreeEvery time.Duration
	// Now is the clock that MaxAge is measured with. Nil means time.Now.
	Now func() time.Time
}

func (c KafkaConfig) withDefaults() KafkaConfig {
	c.Sync = cmp.Or(c.Sync, SyncOS)
	c.Partitions = cmp.Or(c.Partitions, 8)
	c.CleanEvery = cmp.Or(c.CleanEvery, time.Minute)
	c.MinFree = cmp.Or(c.MinFree, 256<<20)
	c.FreeEvery = cmp.Or(c.FreeEvery, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate names every fault of the configuration.
func (c KafkaConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no Dir"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not 0 to 65535", c.Port))
	}
	if c.Sync != "" && c.Sync != SyncOS && c.Sync != SyncFsync {
		errs = append(errs, fmt.Errorf("sync %q is not %q or %q", c.Sync, SyncOS, SyncFsync))
	}
	if c.Partitions < 0 || c.MaxAge < 0 || c.CleanEvery < 0 || c.FreeEvery < 0 {
		errs = append(errs, errors.New("a number is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded kafka: %w", err)
	}
	return nil
}

// Kafka is a log in this process that speaks the Kafka protocol. It is one
// process and not replicated.
//
// It is franz-go's kfake with what that lacks as a log of its own: a lock on the
// directory, removal of old records that never empties a partition (kfake would
// start such a partition again at offset 0), repair after a crash, and a watch on
// the disk.
type Kafka struct {
	cfg     KafkaConfig
	dir     string
	log     *slog.Logger
	lock    *flock.Flock
	gate    *gate
	cluster *kfake.Cluster
	brokers []string
	disk    *diskWatch

	stop      context.CancelFunc
	workers   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// StartKafka opens the log in cfg.Dir and serves it. Before the first client is
// let in, torn files are cut and commits beyond the end of the log are set back.
func StartKafka(cfg KafkaConfig, log *slog.Logger) (*Kafka, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k := &Kafka{cfg: cfg, dir: dir, log: log.With("engine", "kafka")}
	if k.lock, err = lockDir(context.Background(), dir); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if err := k.open(); err != nil {
		_ = k.shut() // err says it
		return nil, fmt.Errorf("kafka: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	k.workers.Go(func() { k.disk.run(ctx) })
	k.workers.Go(func() { k.cleanLoop(ctx) })
	k.log.Info("kafka is up", "addr", k.brokers[0], "dir", dir, "sync", cfg.Sync)
	return k, nil
}

// open loads the log and checks it through a door that only we have.
func (k *Kafka) open() error {
	start := k.cfg.Now()
	if err := repairLogs(k.logDir(), k.log); err != nil {
		return err
	}
	k.gate = newGate()
	k.disk = newDiskWatch(k.dir, k.cfg.MinFree, k.cfg.FreeEvery, k.log)
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(k.cfg.Port),
		kfake.ListenFn(k.gate.listen),
		kfake.DataDir(k.logDir()),
		kfake.ClusterID("activityfeed"),
		kfake.DefaultNumPartitions(k.cfg.Partitions),
		kfake.GroupMinSessionTimeout(minSession),
		kfake.WithLogger(brokerLog{k.log, k.disk}),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes":         strconv.Itoa(segmentBytes),
			"offsets.retention.minutes": strconv.Itoa(int(commitsKept.Minutes())),
		}),
	}
	if k.cfg.Sync == SyncFsync {
		opts = append(opts, kfake.SyncWrites())
	}
	if k.cfg.AutoCreate {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	var err error
	if k.cluster, err = kfake.NewCluster(opts...); err != nil {
		return fmt.Errorf("open the log in %s: %w", k.dir, err)
	}
	k.disk.guard(k.cluster)
	k.brokers = k.cluster.ListenAddrs()
	if err := k.asAdmin(context.Background(), checkCommits); err != nil {
		return fmt.Errorf("check committed offsets: %w", err)
	}
	// Loading reads the whole log through memory, after a crash all at once: 1 GB
	// of log takes 1 GB. It is not needed any more.
	debug.FreeOSMemory()
	k.gate.open()
	k.log.Debug("the log is loaded", "took", k.cfg.Now().Sub(start))
	return nil
}

// asAdmin calls fn with our own way to the broker. Each call has a fresh client: an
// older one answers from what it once knew, and one that was made when there was
// no topic yet goes on knowing none.
func (k *Kafka) asAdmin(ctx context.Context, fn func(context.Context, *Kafka, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.brokers...), kgo.Dialer(k.gate.dial))
	if err != nil {
		return fmt.Errorf("make our own client: %w", err)
	}
	defer client.Close()
	return fn(ctx, k, kadm.NewClient(client))
}

// logDir holds the broker's own files.
func (k *Kafka) logDir() string { return filepath.Join(k.dir, "log") }

// Brokers is what a client connects to: one host:port.
func (k *Kafka) Brokers() []string { return k.brokers }

// Room is nil while the log takes records, and says why not when it refuses them:
// too little disk is left, or the disk failed. The API asks it, to turn new work
// away early; it heals by itself.
func (k *Kafka) Room() error { return k.disk.room() }

// Close ends the log: what is in it is on the disk then. Clients get connection
// errors from now on. It may be called more than once.
func (k *Kafka) Close() error {
	k.closeOnce.Do(func() {
		k.stop()
		k.workers.Wait()
		k.closeErr = k.shut()
	})
	return k.closeErr
}

// shut closes what is open, in the reverse order.
func (k *Kafka) shut() error {
	var err error
	if k.cluster != nil {
		k.cluster.Close()
		// The broker itself syncs nothing at its end unless it syncs every batch.
		if err = syncTree(k.logDir()); err != nil {
			err = fmt.Errorf("kafka: bring the log to the disk: %w", err)
		}
	}
	_ = k.lock.Unlock()
	return err
}
