package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrNoRoom is in the chain of what [Kafka.Room] returns.
var ErrNoRoom = errors.New("the log takes no records")

// diskRecover is how much more than the minimum must be free before records are
// taken again, in percent: else it would flap at the edge.
const diskRecover = 125

// failureShown is how long a failed write counts as a failing disk.
const failureShown = 10 * time.Second

// diskWatch looks at the free space of the log's disk, and has the broker refuse
// records while there is too little: a full disk would tear what is written, and
// commits would be acknowledged but not kept.
type diskWatch struct {
	dir   string
	min   int64 // negative: off
	every time.Duration
	free  func(dir string) (int64, error)
	log   *slog.Logger

	cluster *kfake.Cluster
	refuse  *kfake.FaultHandle // nil while records are taken

	mu     sync.Mutex
	low    error // why records are refused, nil if they are not
	failed error // the last failed write
	until  time.Time
}

func newDiskWatch(dir string, minFree int64, every time.Duration, log *slog.Logger) *diskWatch {
	return &diskWatch{dir: dir, min: minFree, every: every, free: freeBytes, log: log}
}

// guard makes cluster the broker that is told to refuse, and looks once.
func (d *diskWatch) guard(cluster *kfake.Cluster) {
	d.cluster = cluster
	d.look()
}

// run looks until ctx ends.
func (d *diskWatch) run(ctx context.Context) {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.look()
		}
	}
}

// look measures and acts. It is called by one goroutine at a time.
func (d *diskWatch) look() {
	if d.min < 0 {
		return
	}
	free, err := d.free(d.dir)
	if err != nil {
		d.log.Warn("cannot see how much disk is free", "dir", d.dir, "err", err)
		return
	}
	switch {
	case d.refuse == nil && free < d.min:
		// A retriable answer: producers wait and go on when there is room again.
		d.refuse = d.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: -1})
		d.setLow(fmt.Errorf("%w: %d MiB are free in %s, %d MiB must be", ErrNoRoom, free>>20, d.dir, d.min>>20))
		d.log.Error("too little disk is free: records are refused until there is more", "dir", d.dir, "free_bytes", free, "min_bytes", d.min)
	case d.refuse != nil && free >= d.min/100*diskRecover:
		d.refuse.Remove()
		d.refuse = nil
		d.setLow(nil)
		d.log.Info("there is disk again: records are taken", "dir", d.dir, "free_bytes", free)
	}
}

func (d *diskWatch) setLow(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.low = err
}

// writeFailed notes that the broker could not write.
func (d *diskWatch) writeFailed(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed, d.until = fmt.Errorf("%w: %s", ErrNoRoom, text), time.Now().Add(failureShown)
}

func (d *diskWatch) room() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.low == nil && time.Now().Before(d.until) {
		return d.failed
	}
	return d.low
}

// brokerLog is the broker's logger. The broker tells of a failed write of a
// record to its producer but of a failed write of a commit only here.
type brokerLog struct {
	log  *slog.Logger
	disk *diskWatch
}

// Logf takes warnings and errors; below that the broker logs every request.
func (b brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn || level == kfake.LogLevelNone {
		return
	}
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(text, "persist ") {
		b.disk.writeFailed(text)
	}
	if level == kfake.LogLevelError {
		b.log.Error(text)
		return
	}
	b.log.Warn(text)
}
