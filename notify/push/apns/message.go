package apns

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"activityfeed/notify/push"
)

const (
	// maxPayload is Apple's limit of a payload.
	maxPayload = 4096
	// smallPayload is for a second attempt after a refused size.
	smallPayload = 1024
)

type (
	payload struct {
		APS  aps               `json:"aps"`
		ID   string            `json:"id,omitempty"`
		URL  string            `json:"url,omitempty"`
		Data map[string]string `json:"data,omitempty"`
	}
	aps struct {
		Alert *alert `json:"alert,omitempty"`
		Badge int    `json:"badge"`
		Sound string `json:"sound,omitempty"`
		// ContentAvailable wakes the app, so that it removes what was read elsewhere.
		ContentAvailable int `json:"content-available,omitempty"`
	}
	alert struct {
		Title string `json:"title,omitempty"`
		Body  string `json:"body,omitempty"`
	}
)

// encode returns the payload of a message, in at most limit bytes.
func encode(m push.Message, limit int) []byte {
	return render(m.Fit(limit, func(m push.Message) int { return len(render(m)) }))
}

func render(m push.Message) []byte {
	p := payload{APS: aps{Badge: m.Badge}, ID: m.ID, URL: m.URL, Data: m.Data}
	if m.Silent {
		p.APS.ContentAvailable = 1
	} else {
		p.APS.Alert = &alert{m.Title, m.Body}
		if quiet := m.Urgency == push.Low || m.Urgency == push.VeryLow; !quiet {
			p.APS.Sound = "default"
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		// Strings, numbers and a map of strings always have a JSON form.
		panic(err)
	}
	return text
}

// priority returns the apns-priority: 10 is at once, 5 spares the battery, 1 does
// not wake the device.
func priority(m push.Message) string {
	switch {
	case m.Urgency == push.VeryLow:
		return "1"
	case m.Silent, m.Urgency == push.Low:
		return "5"
	default:
		return "10"
	}
}

// collapseID returns the apns-collapse-id, of at most 64 bytes, which says nothing
// of the key.
func collapseID(m push.Message) string {
	sum := sha256.Sum256([]byte(m.Collapse()))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
