//go:build darwin

package embedded

import (
	"bytes"
	"os"
	"syscall"
	"unsafe"
)

// unlockPTY makes the other end usable and returns its path.
func unlockPTY(f *os.File) (string, error) {
	if err := ioctl(f, syscall.TIOCPTYGRANT, nil); err != nil {
		return "", err
	}
	if err := ioctl(f, syscall.TIOCPTYUNLK, nil); err != nil {
		return "", err
	}
	var name [128]byte                                                               // the size is part of the request's number
	if err := ioctl(f, syscall.TIOCPTYGNAME, unsafe.Pointer(&name[0])); err != nil { //nolint:gosec // ioctl takes a pointer
		return "", err
	}
	path, _, _ := bytes.Cut(name[:], []byte{0})
	return string(path), nil
}
