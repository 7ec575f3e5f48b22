package middleware

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Clean returns text that is safe in a header, a log line and a terminal: valid
// UTF-8, control characters and other unprintable runes escaped as Go does, at
// most limit bytes. Error texts quote what users sent.
func Clean(text string, limit int) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		piece := text[:size]
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
			quoted := strconv.Quote(piece)
			piece = quoted[1 : len(quoted)-1]
		}
		if b.Len()+len(piece) > limit {
			break
		}
		b.WriteString(piece)
		text = text[size:]
	}
	return b.String()
}
