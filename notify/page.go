package notify

import (
	"crypto/sha256"
	"encoding/base64"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
)

// A page token is a version, the id of the last row that was shown, and a
// checksum over both and the user: an edited token, another user's and another
// method's are told from a good one. It is no secret; a token made up with effort
// names a place in the caller's own inbox, nothing else.
const (
	tokenVersion = 1
	checksumSize = 6
	tokenSize    = 1 + idSize + checksumSize
)

func pageToken(user string, last event.ID) string {
	b := appendID([]byte{tokenVersion}, last)
	return base64.RawURLEncoding.EncodeToString(append(b, checksum(user, b)...))
}

// readPageToken returns the id after which the page begins; no token means the
// newest row.
func readPageToken(user, token string) (event.ID, error) {
	if token == "" {
		return maxID, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	// The decoder skips line breaks, hence the first length.
	if err != nil || len(token) != base64.RawURLEncoding.EncodedLen(tokenSize) || len(b) != tokenSize ||
		b[0] != tokenVersion || string(checksum(user, b[:1+idSize])) != string(b[1+idSize:]) {
		return 0, fault.Invalid("page_token", "is not a next_page_token of this user's notifications")
	}
	return readID(b[1:]), nil
}

func checksum(user string, b []byte) []byte {
	sum := sha256.Sum256(append([]byte("ListNotifications\x00"+user+"\x00"), b...))
	return sum[:checksumSize]
}
