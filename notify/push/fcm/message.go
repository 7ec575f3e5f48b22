package fcm

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strconv"
	"time"

	"activityfeed/notify/push"
)

const (
	// maxMessage is FCM's limit of a message's content. We count the names and
	// brackets too, which are a few hundred bytes.
	maxMessage = 4096
	// smallMessage is for a second attempt after a refused size.
	smallMessage = 1024
)

// The types follow firebase.google.com/docs/reference/fcm/rest/v1/projects.messages.
type (
	request struct {
		Message message `json:"message"`
	}
	message struct {
		Token        string            `json:"token,omitempty"`
		FID          string            `json:"fid,omitempty"`
		Data         map[string]string `json:"data,omitempty"`
		Notification *notification     `json:"notification,omitempty"`
		Android      android           `json:"android"`
		APNs         apns              `json:"apns"`
	}
	notification struct {
		Title string `json:"title,omitempty"`
		Body  string `json:"body,omitempty"`
	}
	android struct {
		CollapseKey  string               `json:"collapse_key"`
		Priority     string               `json:"priority"`
		TTL          string               `json:"ttl"`
		Notification *androidNotification `json:"notification,omitempty"`
	}
	androidNotification struct {
		// Tag replaces a shown notification; CollapseKey one that waits.
		Tag   string `json:"tag"`
		Count int    `json:"notification_count,omitempty"`
	}
	apns struct {
		Headers map[string]string `json:"headers"`
		Payload apnsPayload       `json:"payload"`
	}
	apnsPayload struct {
		APS aps `json:"aps"`
	}
	aps struct {
		Badge            int `json:"badge"`
		ContentAvailable int `json:"content-available,omitempty"`
	}
)

// encode returns the request for a message, in at most limit bytes.
func encode(to push.Target, m push.Message, ttl time.Duration, now time.Time, limit int) []byte {
	render := func(m push.Message) []byte {
		text, err := json.Marshal(request{build(to, m, ttl, now)})
		if err != nil {
			// Strings, numbers and maps of strings always have a JSON form.
			panic(err)
		}
		return text
	}
	return render(m.Fit(limit, func(m push.Message) int { return len(render(m)) }))
}

func build(to push.Target, m push.Message, ttl time.Duration, now time.Time) message {
	key := collapse(m)
	out := message{
		Token: to.Token,
		Data:  map[string]string{},
		Android: android{
			CollapseKey: key, Priority: "NORMAL",
			// FCM takes four weeks at most.
			TTL: strconv.FormatInt(int64(min(ttl, 28*24*time.Hour)/time.Second), 10) + "s",
		},
		APNs: apns{
			Headers: map[string]string{
				"apns-collapse-id": key,
				"apns-expiration":  strconv.FormatInt(now.Add(ttl).Unix(), 10),
				"apns-priority":    "5",
			},
			Payload: apnsPayload{aps{Badge: m.Badge}},
		},
	}
	if to.TokenKind == push.FCMFID {
		out.Token, out.FID = "", to.Token
	}
	maps.Copy(out.Data, m.Data)
	for k, v := range map[string]string{"id": m.ID, "url": m.URL, "tag": key} {
		if v != "" {
			out.Data[k] = v
		}
	}
	out.Data["badge"] = strconv.Itoa(m.Badge)
	if m.Silent {
		out.Data["silent"] = "true"
		out.APNs.Payload.APS.ContentAvailable = 1
		return out
	}
	out.Notification = &notification{m.Title, m.Body}
	out.Android.Notification = &androidNotification{Tag: key, Count: m.Badge}
	if m.Urgency == push.High {
		out.Android.Priority = "HIGH"
	}
	if m.Urgency == push.High || m.Urgency == push.Normal || m.Urgency == "" {
		out.APNs.Headers["apns-priority"] = "10"
	}
	return out
}

// collapse returns the collapse key: short, and it says nothing of what it stands
// for. A device keeps four of them while it is offline.
func collapse(m push.Message) string {
	sum := sha256.Sum256([]byte(m.Collapse()))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
