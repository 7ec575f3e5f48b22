package push_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"activityfeed/notify/push"
)

func TestTargetsHideTheirSecrets(t *testing.T) {
	t.Parallel()
	targets := map[string]push.Target{
		"endpoint": {Provider: push.WebPush, Endpoint: "https://push.example.net/send/secret-1", P256dh: []byte("secret-2"), Auth: []byte("secret-3")},
		"token":    {Provider: push.FCM, Token: "secret-4"},
	}
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).Info("sent", "target", target)
			fmt.Fprintf(&out, "%v %+v %#v %s", target, target, target, target)
			for _, s := range []push.Scope{push.ScopeDevice, push.ScopeOrigin, push.ScopeProvider} {
				fmt.Fprint(&out, target.ScopeKey(s))
			}
			if strings.Contains(out.String(), "secret") {
				t.Errorf("a logged target shows a secret: %s", out.String())
			}
		})
	}
}

func TestMessageTTL(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		expires time.Time
		want    time.Duration
		expired bool
	}{
		"none":        {time.Time{}, push.DefaultTTL, false},
		"an hour":     {now.Add(time.Hour), time.Hour, false},
		"rounds up":   {now.Add(time.Millisecond), time.Second, false},
		"just passed": {now, 0, true},
		"long passed": {now.Add(-time.Hour), -time.Hour, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, expired := push.Message{Expires: tt.expires}.TTL(now)
			if expired != tt.expired || (!expired && got != tt.want) {
				t.Errorf("TTL = %v, %v, want %v, %v", got, expired, tt.want, tt.expired)
			}
		})
	}
}
