package prefs_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"activityfeed/internal/fault"
	"activityfeed/notify/prefs"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	post    = pb.NotificationType_NOTIFICATION_TYPE_POST
	mention = pb.NotificationType_NOTIFICATION_TYPE_MENTION
)

func TestQuietUntil(t *testing.T) {
	t.Parallel()
	hm := func(h, m int32) int32 { return 60*h + m }
	tests := map[string]struct {
		zone       string
		start, end int32
		now, want  string
	}{
		"before":           {"UTC", hm(22, 0), hm(7, 30), "2026-06-01T21:59:59Z", "2026-06-01T21:59:59Z"},
		"first minute":     {"UTC", hm(22, 0), hm(7, 30), "2026-06-01T22:00:00Z", "2026-06-02T07:30:00Z"},
		"after midnight":   {"UTC", hm(22, 0), hm(7, 30), "2026-06-02T03:00:30Z", "2026-06-02T07:30:00Z"},
		"last moment":      {"UTC", hm(22, 0), hm(7, 30), "2026-06-02T07:29:59.999Z", "2026-06-02T07:30:00Z"},
		"over":             {"UTC", hm(22, 0), hm(7, 30), "2026-06-02T07:30:00Z", "2026-06-02T07:30:00Z"},
		"within one day":   {"UTC", hm(12, 0), hm(14, 0), "2026-06-02T13:00:00Z", "2026-06-02T14:00:00Z"},
		"none":             {"UTC", hm(5, 0), hm(5, 0), "2026-06-02T05:00:00Z", "2026-06-02T05:00:00Z"},
		"another zone":     {"Asia/Kathmandu", hm(22, 0), hm(7, 0), "2026-06-01T16:30:00Z", "2026-06-02T01:15:00Z"}, // +5:45
		"summer in Berlin": {"Europe/Berlin", hm(22, 0), hm(7, 0), "2026-06-01T20:00:00Z", "2026-06-02T05:00:00Z"},
		"winter in Berlin": {"Europe/Berlin", hm(22, 0), hm(7, 0), "2026-12-01T21:00:00Z", "2026-12-02T06:00:00Z"},

		// 2026-03-29: 01:00Z, 02:00 becomes 03:00. The night is an hour shorter.
		"into spring":                   {"Europe/Berlin", hm(22, 0), hm(7, 0), "2026-03-28T23:00:00Z", "2026-03-29T05:00:00Z"},
		"spring skips the end":          {"Europe/Berlin", hm(22, 0), hm(2, 30), "2026-03-29T00:50:00Z", "2026-03-29T01:00:00Z"},
		"spring, ends with the jump":    {"Europe/Berlin", hm(22, 0), hm(3, 0), "2026-03-29T00:50:00Z", "2026-03-29T01:00:00Z"},
		"spring skips the quiet hours":  {"Europe/Berlin", hm(2, 10), hm(2, 50), "2026-03-29T00:59:59Z", "2026-03-29T00:59:59Z"},
		"spring jumps into quiet hours": {"Europe/Berlin", hm(2, 30), hm(4, 0), "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		// 2026-10-25: 01:00Z, 03:00 becomes 02:00. The night is an hour longer.
		"into autumn":                 {"Europe/Berlin", hm(22, 0), hm(7, 0), "2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z"},
		"autumn, the first 02:30":     {"Europe/Berlin", hm(22, 0), hm(2, 30), "2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z"},
		"autumn, 02:00 comes again":   {"Europe/Berlin", hm(22, 0), hm(2, 30), "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"},
		"autumn goes back into quiet": {"Europe/Berlin", hm(2, 0), hm(3, 0), "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"},
		// Lord Howe moves by half an hour: 2026-10-03T15:30Z, 02:00 becomes 02:30.
		"half an hour": {"Australia/Lord_Howe", hm(22, 0), hm(7, 0), "2026-10-03T15:00:00Z", "2026-10-03T20:00:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := prefs.New(&pb.NotificationPreferences{
				TimeZone: tt.zone, QuietHours: &pb.QuietHours{StartMinute: tt.start, EndMinute: tt.end},
			}, nil, 0)
			now, err := time.Parse(time.RFC3339Nano, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.QuietUntil(now).Format(time.RFC3339Nano); got != tt.want {
				t.Errorf("QuietUntil(%s) = %s, want %s", tt.now, got, tt.want)
			}
		})
	}
	if now := time.Now(); !prefs.New(nil, nil, 0).QuietUntil(now).Equal(now) {
		t.Error("no preferences are quiet")
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	defaults := map[pb.NotificationType]prefs.Defaults{post: {time.Minute, time.Hour}, mention: {0, 2 * time.Hour}}
	none := prefs.New(nil, defaults, 30)
	if !none.Push(post) || none.Coalesce(post) != time.Minute || none.TTL(mention) != 2*time.Hour || none.PerHour != 30 || none.Locale.String() != "en" {
		t.Errorf("rules without preferences = %+v", none)
	}
	r := prefs.New(&pb.NotificationPreferences{
		Types: []*pb.TypePreference{
			{Type: post, Coalesce: durationpb.New(0), Ttl: durationpb.New(time.Minute)},
			{Type: mention, Push: pb.Toggle_TOGGLE_OFF},
		},
		Locale: "es-MX", MaxPushesPerHour: 2,
	}, defaults, 30)
	if !r.Push(post) || r.Coalesce(post) != 0 || r.TTL(post) != time.Minute || r.Push(mention) || r.PerHour != 2 || r.Locale.String() != "es-MX" {
		t.Errorf("rules = %+v", r)
	}
	off := &pb.NotificationPreferences{Types: []*pb.TypePreference{{Type: post, Inbox: pb.Toggle_TOGGLE_OFF}}}
	if prefs.Inbox(off, post) || !prefs.Inbox(off, mention) || prefs.New(off, defaults, 0).Push(post) {
		t.Error("a type that is not in the inbox is not pushed either")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		p     *pb.NotificationPreferences
		field string
	}{
		"empty":           {&pb.NotificationPreferences{}, ""},
		"good":            {&pb.NotificationPreferences{TimeZone: "America/Sao_Paulo", Locale: "pt-BR"}, ""},
		"no such zone":    {&pb.NotificationPreferences{TimeZone: "Europe/Atlantis"}, "preferences.time_zone"},
		"the server's":    {&pb.NotificationPreferences{TimeZone: "Local"}, "preferences.time_zone"},
		"a way out":       {&pb.NotificationPreferences{TimeZone: "../../etc/passwd"}, "preferences.time_zone"},
		"no language":     {&pb.NotificationPreferences{Locale: "klingon!"}, "preferences.locale"},
		"the same, twice": {&pb.NotificationPreferences{Types: []*pb.TypePreference{{Type: post}, {Type: post}}}, "preferences.types"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if f := fault.Of(prefs.Validate(tt.p)); f != nil {
				got = f.Field
			}
			if got != tt.field {
				t.Errorf("Validate blames %q, want %q", got, tt.field)
			}
		})
	}
}
