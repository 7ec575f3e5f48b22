package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// child is an engine's process. One goroutine owns it: it starts the process,
// waits for its end and then closes done.
type child struct {
	name  string
	cmd   *exec.Cmd
	out   *lineLog
	done  chan struct{}
	err   error       // how it ended; read only after done
	asked atomic.Bool // stop was called while it lived
}

// startChild starts cmd, sends what it prints to log and sees to it that the
// process does not outlive this one.
func startChild(name string, cmd *exec.Cmd, parse lineParser, log *slog.Logger) (*child, error) {
	c := &child{name: name, cmd: cmd, out: newLineLog(log, parse), done: make(chan struct{})}
	cmd.Stderr = c.out
	if cmd.Stdout == nil {
		cmd.Stdout = c.out
	}
	cmd.SysProcAttr = childAttr()
	// Wait must not hang on a pipe that some grandchild still holds open.
	cmd.WaitDelay = time.Second

	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked
		// ends, not the process; so that thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", name, err)
			return
		}
		started <- nil
		err := cmd.Wait()
		c.out.flush()
		if err == nil {
			err = errors.New("exit status 0")
		}
		// Who is killed from outside has said nothing about it, and what it said long
		// before leads astray.
		within := time.Duration(0)
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			err, within = fmt.Errorf("by signal %d (%s)", status.Signal(), status.Signal()), lastMoment
		}
		c.err = fmt.Errorf("%s ended: %w%s", name, err, c.out.lastWords(within))
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// pid is the process id of the child.
func (c *child) pid() int { return c.cmd.Process.Pid }

// failure says how the process ended by itself; nil while it lives and when stop
// ended it.
func (c *child) failure() error {
	select {
	case <-c.done:
		if c.asked.Load() {
			return nil
		}
		return c.err
	default:
		return nil
	}
}

// stop asks the process to end, and kills it when it has not ended after grace.
// It returns when the process is gone.
func (c *child) stop(grace time.Duration) {
	select {
	case <-c.done:
		return
	default:
	}
	c.asked.Store(true)
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only if it just ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return
	case <-timer.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.done
}
