package load

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// maxLine is the longest line an edge list may have, in bytes: two ids of 64 and
// whatever columns follow fit many times over.
const maxLine = 64 << 10

// Graph is who follows whom.
type Graph struct {
	// Users are the ids, in the order in which the file names them first.
	Users []string
	// Follows are the edges, each once, none to itself, ordered by follower and
	// followee (as indexes, not as strings).
	Follows []Edge
	// SelfLoops and Duplicates count the lines that were dropped.
	SelfLoops, Duplicates int
}

// Edge is one follow; both are indexes into Graph.Users.
type Edge struct{ Follower, Followee uint32 }

// ReadFile reads the edge list in a file, see [Read].
func ReadFile(path string) (*Graph, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read graph: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	g, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("read graph %s: %w", path, err)
	}
	return g, nil
}

// Read reads an edge list as https://snap.stanford.edu/data and
// https://networkrepository.com publish them: one "a b" a line, which reads
// "a follows b", separated by tabs, spaces or commas. Lines that begin with # or %
// are comments, columns after the second (weights, times) are ignored, and a
// gzipped list is recognised by its first bytes. User ids are taken as they are
// and must be ids of the API: 1 to 64 characters of [A-Za-z0-9_.:-]. A line that is
// no edge ends the reading with an error that names its number.
func Read(r io.Reader) (*Graph, error) {
	in := bufio.NewReader(r)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readLines(unzipped) // reading to the end checks the sum; there is nothing to close
	}
	return readLines(in)
}

func readLines(r io.Reader) (*Graph, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	g := &Graph{}
	known := make(map[string]uint32)
	user := func(id []byte) uint32 {
		n, ok := known[string(id)] // does not allocate
		if !ok {
			n = uint32(len(g.Users))
			known[string(id)] = n
			g.Users = append(g.Users, string(id))
		}
		return n
	}
	number := 1
	for ; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' || line[0] == '%' {
			continue
		}
		fields := bytes.FieldsFunc(line, func(c rune) bool { return c == '\t' || c == ' ' || c == ',' })
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: want two users, have %.80q", number, line)
		}
		for _, id := range fields[:2] {
			if !isUserID(id) {
				return nil, fmt.Errorf("line %d: %.80q is not a user id: 1 to 64 characters of [A-Za-z0-9_.:-]", number, id)
			}
		}
		e := Edge{Follower: user(fields[0]), Followee: user(fields[1])}
		if e.Follower == e.Followee {
			g.SelfLoops++
			continue
		}
		g.Follows = append(g.Follows, e)
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxLine)
		}
		return nil, fmt.Errorf("line %d: %w", number, err)
	}
	all := len(g.Follows)
	slices.SortFunc(g.Follows, compareEdges)
	g.Follows = slices.Compact(g.Follows)
	g.Duplicates = all - len(g.Follows)
	return g, nil
}

func compareEdges(a, b Edge) int {
	if a.Follower != b.Follower {
		return int(int64(a.Follower) - int64(b.Follower))
	}
	return int(int64(a.Followee) - int64(b.Followee))
}

func isUserID(id []byte) bool {
	for _, c := range id {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case c == '_', c == '.', c == ':', c == '-':
		default:
			return false
		}
	}
	return 1 <= len(id) && len(id) <= 64
}
