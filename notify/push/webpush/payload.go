package webpush

import (
	"encoding/json"

	"activityfeed/notify/push"
)

const (
	// maxBody is what every push service takes, RFC 8030 section 7.2: it counts the
	// encrypted body.
	maxBody = 4096
	// mozillaBody is what reaches Firefox for Android, whose messages travel on as
	// base64 through FCM. Its endpoints look like those of the desktop.
	mozillaBody   = 3070
	mozillaOrigin = "https://updates.push.services.mozilla.com"
	// appleOrigin ends the subscription of an app that is pushed to and shows nothing.
	// Source: webkit.org/blog/12945, "Meet Web Push".
	appleOrigin = "https://web.push.apple.com"
	// smallBody is for a second attempt after "413 Payload Too Large".
	smallBody = 1024
	// bucket rounds lengths up, so that an observer learns little from them; padding
	// everything to 4096 costs bandwidth and is what Firefox for Android refuses.
	bucket = 256
)

// payload is what the service worker gets, as JSON.
type payload struct {
	ID    string `json:"id,omitempty"`
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
	// URL is opened by a click.
	URL string `json:"url,omitempty"`
	// Tag replaces a shown notification of the same tag.
	Tag    string            `json:"tag,omitempty"`
	Badge  int               `json:"badge"`
	Silent bool              `json:"silent,omitempty"`
	Data   map[string]string `json:"data,omitempty"`
}

// body returns the encrypted message in at most limit bytes.
func body(to push.Target, m push.Message, limit int) ([]byte, error) {
	room := limit - overhead
	m = m.Fit(room, func(m push.Message) int { return len(plaintext(m)) })
	text := plaintext(m)
	padding := min((len(text)+bucket-1)/bucket*bucket, room) - len(text)
	return Encrypt(text, to.P256dh, to.Auth, max(padding, 0))
}

func plaintext(m push.Message) []byte {
	text, err := json.Marshal(payload{
		ID: m.ID, Title: m.Title, Body: m.Body, URL: m.URL, Tag: topic(m.Collapse()),
		Badge: m.Badge, Silent: m.Silent, Data: m.Data,
	})
	if err != nil {
		// Strings, numbers and a map of strings always have a JSON form.
		panic(err)
	}
	return text
}

// limitOf returns how large a body may be for an endpoint.
func limitOf(origin string) int {
	if origin == mozillaOrigin {
		return mozillaBody
	}
	return maxBody
}
