package push

import (
	"sort"
	"unicode"
)

// ellipsis ends a text that was shortened.
const ellipsis = "…"

// Fit returns the message with as much of its text as size allows in limit bytes:
// first Body is shortened, then Data left out, then Title shortened, then URL left
// out (a click opens the app). size must not shrink when the message grows. What
// cannot fit even so is returned at its smallest.
func (m Message) Fit(limit int, size func(Message) int) Message {
	fits := func() bool { return size(m) <= limit }
	if fits() {
		return m
	}
	m.Body = longest(m.Body, func(s string) bool { m.Body = s; return fits() })
	if fits() {
		return m
	}
	m.Data = nil
	if fits() {
		return m
	}
	m.Title = longest(m.Title, func(s string) bool { m.Title = s; return fits() })
	if fits() {
		return m
	}
	m.URL = ""
	return m
}

// longest returns the longest beginning of text that fits, ended by an ellipsis
// where something is missing, or nothing.
func longest(text string, fits func(string) bool) string {
	runes := []rune(text)
	// The first length that does not fit; 0 runes are not worth an ellipsis.
	n := sort.Search(len(runes), func(n int) bool { return !fits(cut(runes, n+1)) })
	return cut(runes, n)
}

// cut returns the first n runes, without half an emoji or a letter that lost its
// accent at the end.
func cut(runes []rune, n int) string {
	if n >= len(runes) {
		return string(runes)
	}
	for n > 0 && joins(runes[n]) || n > 0 && runes[n-1] == zeroWidthJoiner {
		n--
	}
	if n == 0 {
		return ""
	}
	return string(runes[:n]) + ellipsis
}

const zeroWidthJoiner = '\u200d'

// joins says whether a rune belongs to the one before it.
func joins(r rune) bool {
	const skinFirst, skinLast = '\U0001F3FB', '\U0001F3FF'
	return unicode.Is(unicode.M, r) || r == zeroWidthJoiner || skinFirst <= r && r <= skinLast
}
