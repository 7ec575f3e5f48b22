package feed

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
)

// A page token is base64url of: version, place in the list, 8 bytes of a hash
// over these and over whose list of what kind it is. The place is an id, not a
// position, so it stays right over deletes, trims and rebuilds. The hash is no
// safeguard of a secret: it keeps a token of another list, or a broken one, from
// silently reading somewhere else.
const (
	tokenVersion = 1
	tokenSum     = 8
)

// tokenList names a list that is paged.
type tokenList struct {
	kind string // "home", "author", or a relation
	user string
	of   string // the author of an author's feed, as the reader sees it
}

func (l tokenList) sum(body []byte) []byte {
	text := make([]byte, 0, 256)
	for _, part := range [...]string{"activityfeed page token", l.kind, l.user, l.of} {
		text = append(append(text, part...), 0)
	}
	sum := sha256.Sum256(append(text, body...))
	return sum[:tokenSum]
}

func (l tokenList) seal(place []byte) string {
	body := append([]byte{tokenVersion}, place...)
	return base64.RawURLEncoding.EncodeToString(append(body, l.sum(body)...))
}

// open returns the place of a token, nil of an empty one.
func (l tokenList) open(token string) ([]byte, error) {
	if token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 1+tokenSum || raw[0] != tokenVersion {
		return nil, fault.Invalid("page_token", "is not one that this server gave")
	}
	body, sum := raw[:len(raw)-tokenSum], raw[len(raw)-tokenSum:]
	if string(sum) != string(l.sum(body)) {
		return nil, fault.Invalid("page_token", "belongs to another list")
	}
	return body[1:], nil
}

// cursorToken asks for the posts below id.
func (l tokenList) cursorToken(id event.ID) string {
	return l.seal(binary.BigEndian.AppendUint64(nil, uint64(id)))
}

// cursor returns the id of a token, noCursor of an empty one.
func (l tokenList) cursor(token string) (event.ID, error) {
	place, err := l.open(token)
	if err != nil || place == nil {
		return noCursor, err
	}
	if len(place) != 8 {
		return noCursor, fault.Invalid("page_token", "is not one that this server gave")
	}
	return event.ID(binary.BigEndian.Uint64(place)), nil
}

// pageSize applies the rules of the API: 0 means usual, more than most means most.
func pageSize(asked int32, usual, most int) (int, error) {
	switch {
	case asked < 0:
		return 0, fault.Invalid("page_size", "must not be negative")
	case asked == 0:
		return usual, nil
	}
	return min(int(asked), most), nil
}
