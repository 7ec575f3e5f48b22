package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"activityfeed/internal/embedded"
)

// folders are those of the embedded engines that the roles need.
func (f engineFlags) folders(roles roleSet) []string {
	var dirs []string
	if len(f.Kafka) == 0 {
		dirs = append(dirs, filepath.Join(f.DataDir, "kafka"))
	}
	if len(f.Redis) == 0 && roles.needsRedis() {
		dirs = append(dirs, filepath.Join(f.DataDir, "redis"))
	}
	if len(f.Clickhouse) == 0 && roles.has(roleAnalytics) {
		dirs = append(dirs, filepath.Join(f.DataDir, "clickhouse"))
	}
	return dirs
}

// checkFolders makes the data folder and sees that this process, and nobody else, can
// serve from it.
func (f engineFlags) checkFolders(ctx context.Context, roles roleSet) error {
	if f.DataDir == "" {
		return errors.New(`--data-dir: name a folder ("." is the current one)`)
	}
	engines := f.folders(roles)
	for _, dir := range append([]string{f.DataDir}, engines...) {
		if err := makeFolder(dir); err != nil {
			return fmt.Errorf("--data-dir: %w", err)
		}
	}
	for _, dir := range engines {
		err := embedded.AwaitUnused(ctx, dir)
		inUse, ok := errors.AsType[*embedded.InUseError](err)
		switch {
		case ok && inUse.Left:
			return fmt.Errorf("--data-dir: %s is in use: an engine of an earlier run, %s, still serves from it: end that process", f.DataDir, inUse.By)
		case ok:
			return fmt.Errorf("--data-dir: %s is in use: another activityfeed, %s, serves from it: stop that one, or give this one a folder of its own", f.DataDir, inUse.By)
		case err != nil:
			return fmt.Errorf("--data-dir: %w", err)
		}
	}
	return nil
}

// makeFolder makes a folder and writes in it, or says whose it is and what to do.
func makeFolder(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = tryToWrite(dir)
	}
	if err == nil {
		return nil
	}
	// What exists of the path decides.
	at := dir
	info, statErr := os.Stat(at)
	for statErr != nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, statErr = os.Stat(at)
	}
	cause := err
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		cause = inner.Err
	}
	switch {
	case statErr != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: name a folder", at)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to %s, and %s may not write there: give it to them (chown), or name another folder", at, owner(info), userName(os.Geteuid()))
	}
	return fmt.Errorf("cannot write in %s: %w: name another folder", at, cause)
}

func tryToWrite(dir string) error {
	file, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

func owner(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return userName(int(stat.Uid))
	}
	return "somebody else"
}

func userName(id int) string {
	if found, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return found.Username
	}
	return "user " + strconv.Itoa(id)
}
