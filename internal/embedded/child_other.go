//go:build unix && !linux

package embedded

import "syscall"

// childAttr keeps the terminal's Ctrl-C away from the child: we drain first, and
// need the engine for that. There is no parent-death signal here: after a kill
// -9 of this process the child runs on, holds the lock of its directory, and the
// next start says which process to end.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
