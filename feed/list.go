package feed

import (
	"bytes"
	"math"
	"strconv"

	"activityfeed/internal/event"
)

// listed is what a LIST of a home feed held in the part that was read.
type listed struct {
	length int
	// ids are the entries without the sentinel or a marker, as they lie.
	ids []event.ID
	// whole says that the last entry is the sentinel.
	whole bool
}

func listOf(entries []string) listed {
	l := listed{length: len(entries), ids: make([]event.ID, 0, len(entries))}
	for _, entry := range entries {
		if id, err := event.ParseID(entry); err == nil {
			l.ids = append(l.ids, id)
		}
		l.whole = entry == sentinel
	}
	return l
}

// mostEntries is far above what is read of a list at once.
const mostEntries = 1 << 20

// parseList reads a list out of a reply as Redis sent it. It returns false if the
// reply is anything else, an error for one: whoever asks again in the usual way gets
// it with everything that the client does about it.
func parseList(reply []byte) (listed, bool) {
	head, rest, _ := bytes.Cut(reply, crlf)
	n, ok := parseLength(head, '*')
	if !ok {
		return listed{}, false
	}
	l := listed{length: n, ids: make([]event.ID, 0, n)}
	for range n {
		if id, after, ok := cutID(rest); ok {
			l.ids, l.whole, rest = append(l.ids, id), false, after
			continue
		}
		var entry []byte
		if entry, rest, ok = cutString(rest); !ok {
			return listed{}, false
		}
		l.whole = string(entry) == sentinel
	}
	return l, len(rest) == 0
}

// parseString reads a string out of a reply, false if it is anything else.
func parseString(reply []byte) ([]byte, bool) {
	s, rest, ok := cutString(reply)
	return s, ok && len(rest) == 0
}

var crlf = []byte("\r\n")

func cutString(reply []byte) (s, rest []byte, ok bool) {
	head, rest, _ := bytes.Cut(reply, crlf)
	n, ok := parseLength(head, '$')
	if !ok || len(rest) < n+len(crlf) {
		return nil, nil, false
	}
	return rest[:n], rest[n+len(crlf):], true
}

func parseLength(head []byte, kind byte) (int, bool) {
	if len(head) < 2 || head[0] != kind {
		return 0, false
	}
	n, err := strconv.Atoi(string(head[1:]))
	return n, err == nil && n >= 0 && n <= mostEntries
}

// cutID cuts off an id, as nearly every entry is one.
func cutID(reply []byte) (id event.ID, rest []byte, ok bool) {
	const head, digits, size = "$19\r\n", 19, 5 + 19 + 2
	if len(reply) < size || string(reply[:len(head)]) != head || reply[len(head)] == '0' {
		return 0, nil, false
	}
	var n uint64 // 19 digits fit
	for _, c := range reply[len(head) : len(head)+digits] {
		if c < '0' || c > '9' {
			return 0, nil, false
		}
		n = n*10 + uint64(c-'0')
	}
	return event.ID(n), reply[size:], n <= math.MaxInt64 && reply[size-2] == '\r'
}
