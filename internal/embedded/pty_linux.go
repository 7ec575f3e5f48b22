//go:build linux

package embedded

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// unlockPTY makes the other end usable and returns its path.
func unlockPTY(f *os.File) (string, error) {
	var off, n int32
	if err := ioctl(f, syscall.TIOCSPTLCK, unsafe.Pointer(&off)); err != nil { //nolint:gosec // ioctl takes a pointer
		return "", err
	}
	if err := ioctl(f, syscall.TIOCGPTN, unsafe.Pointer(&n)); err != nil { //nolint:gosec // as above
		return "", err
	}
	return "/dev/pts/" + strconv.Itoa(int(n)), nil
}
