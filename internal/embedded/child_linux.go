//go:build linux

package embedded

import "syscall"

// childAttr ties the child to us. Its own process group keeps the terminal's
// Ctrl-C away from it: we drain first, and need the engine for that. The kernel
// kills it when we die; SIGKILL because it cannot be slow, and what an engine
// has acknowledged is already with the kernel by then.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
