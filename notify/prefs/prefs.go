// Package prefs is what a person wants to be told, and when: the rules that follow
// from their preferences and the server's defaults. It keeps nothing.
package prefs

import (
	"time"
	_ "time/tzdata" // the zones, where the host has none

	"golang.org/x/text/language"

	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// Defaults are the server's own rules for one type.
type Defaults struct {
	// Coalesce is how long a push waits for the rest of its burst.
	Coalesce time.Duration
	// TTL is how old a notification may get before a push is not worth sending.
	TTL time.Duration
}

// Rules are a person's preferences over the defaults.
type Rules struct {
	types    map[pb.NotificationType]*pb.TypePreference
	defaults map[pb.NotificationType]Defaults
	quiet    *pb.QuietHours
	zone     *time.Location
	// Locale is the language of pushes.
	Locale language.Tag
	// PerHour is how many pushes an hour may have.
	PerHour int
}

// New returns the rules of a person; nil preferences mean the defaults, perHour is
// the server's own limit.
func New(p *pb.NotificationPreferences, defaults map[pb.NotificationType]Defaults, perHour int) Rules {
	r := Rules{defaults: defaults, quiet: p.GetQuietHours(), zone: time.UTC, Locale: language.English, PerHour: perHour}
	r.types = make(map[pb.NotificationType]*pb.TypePreference, len(p.GetTypes()))
	for _, t := range p.GetTypes() {
		r.types[t.GetType()] = t
	}
	if zone, err := time.LoadLocation(p.GetTimeZone()); err == nil {
		r.zone = zone
	}
	if tag, err := language.Parse(p.GetLocale()); err == nil && p.GetLocale() != "" {
		r.Locale = tag
	}
	if n := int(p.GetMaxPushesPerHour()); n > 0 {
		r.PerHour = n
	}
	return r
}

// Validate returns what the schema cannot say of preferences, as a fault that names
// the field.
func Validate(p *pb.NotificationPreferences) error {
	seen := map[pb.NotificationType]bool{}
	for _, t := range p.GetTypes() {
		if seen[t.GetType()] {
			return fault.Invalid("preferences.types", "has %s twice", t.GetType())
		}
		seen[t.GetType()] = true
	}
	// "Local" is the server's zone: not a person's.
	if _, err := time.LoadLocation(p.GetTimeZone()); err != nil || p.GetTimeZone() == "Local" {
		return fault.Invalid("preferences.time_zone", "is not the IANA name of a time zone")
	}
	if _, err := language.Parse(p.GetLocale()); err != nil && p.GetLocale() != "" {
		return fault.Invalid("preferences.locale", "is not a language tag")
	}
	return nil
}

// Inbox says whether a type is put into the inbox.
func Inbox(p *pb.NotificationPreferences, kind pb.NotificationType) bool {
	for _, t := range p.GetTypes() {
		if t.GetType() == kind {
			return t.GetInbox() != pb.Toggle_TOGGLE_OFF
		}
	}
	return true
}

// Push says whether a type is pushed.
func (r Rules) Push(kind pb.NotificationType) bool {
	t := r.types[kind]
	return t.GetInbox() != pb.Toggle_TOGGLE_OFF && t.GetPush() != pb.Toggle_TOGGLE_OFF
}

// Coalesce is how long a push of a type waits for others.
func (r Rules) Coalesce(kind pb.NotificationType) time.Duration {
	if d := r.types[kind].GetCoalesce(); d != nil {
		return d.AsDuration()
	}
	return r.defaults[kind].Coalesce
}

// TTL is how old a notification of a type may get before it is not pushed.
func (r Rules) TTL(kind pb.NotificationType) time.Duration {
	if d := r.types[kind].GetTtl(); d != nil {
		return d.AsDuration()
	}
	return r.defaults[kind].TTL
}

// QuietUntil returns the first moment from now on that is not in the quiet hours:
// now, if they are not. Quiet is what the clock on the person's wall says: where it
// jumps over the end of the quiet hours they end with the jump, and where it shows
// an hour twice they may come twice.
func (r Rules) QuietUntil(now time.Time) time.Time {
	t := now.In(r.zone)
	for r.isQuiet(t) {
		left := (int(r.quiet.GetEndMinute()) - minute(t) + 1440) % 1440
		next := t.Truncate(time.Minute).Add(time.Duration(left) * time.Minute)
		// The clock is set before that: look again there.
		if _, end := t.ZoneBounds(); !end.IsZero() && end.Before(next) {
			next = end
		}
		t = next
	}
	if t.Equal(now) {
		return now
	}
	return t.UTC()
}

func (r Rules) isQuiet(t time.Time) bool {
	start, end, m := int(r.quiet.GetStartMinute()), int(r.quiet.GetEndMinute()), minute(t)
	if start <= end {
		return start <= m && m < end
	}
	return m >= start || m < end
}

func minute(t time.Time) int { return 60*t.Hour() + t.Minute() }
