package push

import "time"

// Urgency is how soon a device is woken, RFC 8030 section 5.3.
type Urgency string

// The urgencies. The empty one means Normal. High is for what was said to this
// person alone; providers throttle those who send everything with it.
const (
	VeryLow Urgency = "very-low"
	Low     Urgency = "low"
	Normal  Urgency = "normal"
	High    Urgency = "high"
)

// DefaultTTL is how long a provider keeps a message that has no Expires.
const DefaultTTL = 24 * time.Hour

// Message is what a device is told. All texts are final, in the person's language;
// the sender shortens Body, then Data, then Title to what the provider takes.
type Message struct {
	// ID names this delivery: the same for all attempts, another one for each device.
	// APNs gets a UUID made of it.
	ID string
	// Title and Body are what is shown.
	Title, Body string
	// URL is what a click opens.
	URL string
	// Data is for the app. Never put access tokens or private text here: providers
	// read it (not Web Push, which is encrypted for the device).
	Data map[string]string
	// CollapseKey makes a later message replace an earlier one that the device has
	// not shown or still shows. Any length; providers get a hash of it. Empty: ID.
	CollapseKey string
	// Urgency is how soon the device is woken. Silent messages are sent Low at most.
	Urgency Urgency
	// Expires is when nobody needs to be told any more: the provider drops the
	// message then, and an attempt after it is dropped here. Zero: DefaultTTL after
	// the attempt.
	Expires time.Time
	// Badge is the unread count for the app's icon; 0 clears it.
	Badge int
	// Silent messages show nothing: they carry Badge and Data, "read elsewhere".
	Silent bool
}

// Collapse returns CollapseKey, or ID where there is none.
func (m Message) Collapse() string {
	if m.CollapseKey == "" {
		return m.ID
	}
	return m.CollapseKey
}

// TTL returns how long the provider shall keep the message at now, in whole
// seconds rounded up, and whether it is too late to send it.
func (m Message) TTL(now time.Time) (ttl time.Duration, expired bool) {
	if m.Expires.IsZero() {
		return DefaultTTL, false
	}
	left := m.Expires.Sub(now)
	return (left + time.Second - 1).Truncate(time.Second), left <= 0
}
