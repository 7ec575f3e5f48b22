package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const (
	// lockName is the lock file inside a data directory.
	lockName = "lock"
	// lockWait is how long a start waits for the lock: after a kill -9 the old
	// process and its engine need a moment to be gone.
	lockWait = 3 * time.Second
	// lockRetry is how often the lock is tried meanwhile.
	lockRetry = 20 * time.Millisecond
)

// InUseError says that another process serves from a data directory.
type InUseError struct {
	Dir string
	// By names the process: "process 123".
	By string
	// Left: it is an engine that has outlived who started it.
	Left bool
}

// Error says what to do.
func (e *InUseError) Error() string {
	if e.Left {
		return fmt.Sprintf("data directory %s is still served by an engine of an earlier run, %s: end that process", e.Dir, e.By)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop that process, or choose another directory", e.Dir, e.By)
}

// AwaitUnused returns when nobody serves from the directory of an engine, and makes
// it when there is none. Who was killed a moment ago is waited for, its engine too;
// then the error is an [InUseError].
func AwaitUnused(ctx context.Context, dir string) error {
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	held, err := lockForChild(dir)
	if err != nil {
		return err
	}
	return held.Close()
}

// lockDir makes dir and takes its lock, so that no second process serves the
// same files. The error names the holder.
func lockDir(ctx context.Context, dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(dir, lockName)
	l := flock.New(path, flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if ok, err := l.TryLockContext(ctx, lockRetry); !ok {
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, &InUseError{Dir: dir, By: holder(path)}
	}
	// For the error above only; the lock itself is what counts.
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		_ = l.Unlock()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return l, nil
}

// lockForChild takes a second lock on dir that lives as long as the returned
// file or any copy of it: handed to the engine's process, it is held exactly as
// long as that process lives, also when it outlives us.
func lockForChild(dir string) (*os.File, error) {
	path := filepath.Join(dir, "engine."+lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Now().After(deadline) {
			_ = f.Close()
			return nil, &InUseError{Dir: dir, By: holder(path), Left: true}
		}
	}
}

// holder names the process that wrote its id into the lock file.
func holder(path string) string {
	b, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return "process " + id
	}
	return "another process"
}
