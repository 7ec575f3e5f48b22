package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// repairLogs prepares the broker's directory for an open after whatever end.
func repairLogs(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	// kfake reads these up to the first torn entry, then appends behind it: what
	// is committed from now on would be lost at the next crash.
	for _, name := range []string{"groups.log", "pids.log"} {
		cut, err := cutTornTail(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("repair %s: %w", name, err)
		}
		if cut > 0 {
			log.Warn("cut a torn end, as a crash leaves it", "file", name, "bytes", cut)
		}
	}
	// The members that were connected at a clean end. They were in this process,
	// or find another broker session anyway; kept, they would block the commits
	// that checkCommits may have to make.
	if err := os.Remove(filepath.Join(dir, "session_state.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget old sessions: %w", err)
	}
	return nil
}

// cutTornTail cuts a log of framed entries after its last whole one and returns
// how many bytes that took. An entry is: length (4 bytes, little endian, of what
// follows the checksum), CRC-32C of that (4 bytes), version (2 bytes), data; see
// writeEntry in kfake's persist.go.
func cutTornTail(path string) (int64, error) {
	const header = 8
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	good := 0
	for good+header <= len(raw) {
		length := int(binary.LittleEndian.Uint32(raw[good:]))
		end := good + header + length
		if length < 2 || end > len(raw) || crc32.Checksum(raw[good+header:end], table) != binary.LittleEndian.Uint32(raw[good+4:]) {
			break
		}
		good = end
	}
	if good == len(raw) {
		return 0, nil
	}
	return int64(len(raw) - good), os.Truncate(path, int64(good))
}

// syncTree brings every file and directory below dir to the disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path) //nolint:gosec // the tree is ours alone, and locked
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
