package apns_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/apns"
	"activityfeed/notify/push/pushtest"
)

var _ push.Sender = (*apns.Sender)(nil)

// bed is a sender and its push service.
type bed struct {
	service *pushservice.APNs
	clock   *testenv.Clock
	cfg     apns.Config
	sender  *apns.Sender
}

func newBed(t *testing.T, change func(*apns.Config)) *bed {
	t.Helper()
	// Tokens change where the test has them change: the clock begins on a full hour.
	b := &bed{clock: testenv.NewClock(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC))}
	var err error
	if b.service, err = pushservice.StartAPNs(pushservice.Options{Now: b.clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.service.Close)
	key, err := b.service.AuthKey()
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = apns.Config{
		KeyFile: pushtest.File(t, "AuthKey.p8", key), KeyID: pushservice.APNsKeyID, TeamID: pushservice.APNsTeam,
		Topic: "com.example.photos", URL: b.service.URL(), SandboxURL: "https://sandbox.invalid",
	}
	if change != nil {
		change(&b.cfg)
	}
	b.sender = b.another(t)
	return b
}

// another returns a sender with the same key, as another process has it.
func (b *bed) another(t *testing.T) *apns.Sender {
	t.Helper()
	s, err := apns.New(b.cfg, apns.Deps{Log: testenv.Logger(t), Now: b.clock.Now, RootCAs: b.service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

var (
	registered = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	device     = push.Target{Provider: push.APNs, Token: strings.Repeat("0a", 32), Registered: registered}
	message    = pushtest.Message()
)

// The table of the package comment, one row each.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	failure := pushservice.APNsError
	pause := func(status int, code string, reason push.Reason, scope push.Scope) push.Outcome {
		return push.Outcome{Action: push.Pause, Reason: reason, Scope: scope, RetryAfter: time.Minute, Status: status, Code: code}
	}
	tests := map[string]struct {
		reply *pushservice.Reply
		want  push.Outcome
	}{
		"200": {nil, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 200}},
		"410 Unregistered since": {
			pushservice.APNsGone("Unregistered", registered.Add(time.Hour)),
			push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410, Code: "Unregistered"},
		},
		"410 Unregistered at the same time": {
			pushservice.APNsGone("Unregistered", registered),
			push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410, Code: "Unregistered"},
		},
		"410 Unregistered before it registered again": {
			pushservice.APNsGone("Unregistered", registered.Add(-time.Hour)),
			push.Outcome{Action: push.Retry, Reason: push.Stale, Status: 410, Code: "Unregistered"},
		},
		"410 ExpiredToken": {
			pushservice.APNsGone("ExpiredToken", registered.Add(time.Hour)),
			push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410, Code: "ExpiredToken"},
		},
		"410 without a time": {
			&pushservice.Reply{Status: 410, Body: "gone"},
			push.Outcome{Action: push.Suspect, Reason: push.Gone, Scope: push.ScopeOrigin, Guilty: push.Prune, Status: 410},
		},
		"400 BadDeviceToken": {
			failure(400, "BadDeviceToken"),
			push.Outcome{Action: push.Suspect, Reason: push.BadToken, Scope: push.ScopeOrigin, Guilty: push.Prune, Status: 400, Code: "BadDeviceToken"},
		},
		"400 DeviceTokenNotForTopic": {
			failure(400, "DeviceTokenNotForTopic"),
			push.Outcome{Action: push.Suspect, Reason: push.WrongApp, Scope: push.ScopeOrigin, Guilty: push.Prune, Status: 400, Code: "DeviceTokenNotForTopic"},
		},
		"403 ExpiredProviderToken, ours is young": {
			failure(403, "ExpiredProviderToken"), pause(403, "ExpiredProviderToken", push.Unauthorized, push.ScopeProvider),
		},
		"403 InvalidProviderToken, ours is young": {
			failure(403, "InvalidProviderToken"), pause(403, "InvalidProviderToken", push.Unauthorized, push.ScopeProvider),
		},
		"403 Forbidden":                 {failure(403, "Forbidden"), pause(403, "Forbidden", push.Unauthorized, push.ScopeProvider)},
		"403 BadCertificate":            {failure(403, "BadCertificate"), pause(403, "BadCertificate", push.Unauthorized, push.ScopeProvider)},
		"403 BadCertificateEnvironment": {failure(403, "BadCertificateEnvironment"), pause(403, "BadCertificateEnvironment", push.Unauthorized, push.ScopeProvider)},
		"400 TopicDisallowed":           {failure(400, "TopicDisallowed"), pause(400, "TopicDisallowed", push.Misconfigured, push.ScopeOrigin)},
		"400 BadTopic":                  {failure(400, "BadTopic"), pause(400, "BadTopic", push.Misconfigured, push.ScopeOrigin)},
		"404 BadPath":                   {failure(404, "BadPath"), pause(404, "BadPath", push.Misconfigured, push.ScopeProvider)},
		"405 MethodNotAllowed":          {failure(405, "MethodNotAllowed"), pause(405, "MethodNotAllowed", push.Misconfigured, push.ScopeProvider)},
		"302 of a proxy":                {&pushservice.Reply{Status: 302, Header: map[string]string{"Location": "https://login.example.com"}}, pause(302, "", push.Misconfigured, push.ScopeProvider)},
		"400 BadCollapseId": {
			failure(400, "BadCollapseId"),
			push.Outcome{Action: push.Drop, Reason: push.Rejected, Status: 400, Code: "BadCollapseId"},
		},
		"413 PayloadTooLarge": {
			failure(413, "PayloadTooLarge"),
			push.Outcome{Action: push.Drop, Reason: push.TooLarge, Status: 413, Code: "PayloadTooLarge"},
		},
		"429 TooManyRequests": {
			failure(429, "TooManyRequests"),
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429, Code: "TooManyRequests"},
		},
		"429 TooManyProviderTokenUpdates": {
			failure(429, "TooManyProviderTokenUpdates"), pause(429, "TooManyProviderTokenUpdates", push.Unauthorized, push.ScopeProvider),
		},
		"500 InternalServerError": {
			failure(500, "InternalServerError"),
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 500, Code: "InternalServerError"},
		},
		"503 ServiceUnavailable": {
			failure(503, "ServiceUnavailable"),
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 503, Code: "ServiceUnavailable"},
		},
		"503 Shutdown": {
			failure(503, "Shutdown"),
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 503, Code: "Shutdown"},
		},
		"502 page of a proxy": {
			&pushservice.Reply{Status: 502, Body: "<html><h1>Bad Gateway</h1></html>"},
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 502},
		},
		"broken connection": {
			&pushservice.Reply{},
			push.Outcome{Action: push.Retry, Reason: push.Network, Scope: push.ScopeOrigin, Code: "connection"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			b.service.Answer(tt.reply)
			got := b.sender.Send(t.Context(), device, message)
			if answered := got.Status != 0; answered != (got.ProviderID != "") {
				t.Errorf("ProviderID = %q, want the apns-id of an answer", got.ProviderID)
			}
			pushtest.WantOutcome(t, b.service, tt.want, got)
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(c *apns.Config) { c.Timeout = 100 * time.Millisecond })
	pushtest.WantTimeout(t, b.service, b.sender, device, push.ScopeOrigin)
}

// Apple ends connections by GOAWAY as a matter of course; what was not taken goes on
// over another one.
func TestGoAway(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
		t.Fatalf("Send = %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.service.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.sender.Send(t.Context(), device, message); got.Action != push.Retry || got.Reason != push.Network {
		t.Errorf("Send to a service that is down = %+v, want Retry", got)
	}
	if err := b.service.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
		t.Errorf("Send to a service that is back = %+v, want OK", got)
	}
}

// The service refuses tokens over an hour old, and new ones within 20 minutes.
func TestProviderTokensChangeInTime(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.clock.Advance(29 * time.Minute) // the process starts at the end of a half-hour
	for range 300 {
		b.clock.Advance(time.Minute)
		if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
			t.Fatalf("at %v Send = %+v (%v)", b.clock.Now(), got, b.service.Faults())
		}
	}
	if got := b.service.TokenChanges(); got < 8 || got > 11 {
		t.Errorf("%d tokens in 5 hours, want about 10", got)
	}
}

// Processes that share a key make the same token and never hear
// TooManyProviderTokenUpdates.
func TestProcessesShareTheirToken(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	senders := []*apns.Sender{b.sender, b.another(t), b.another(t)}
	for range 120 {
		b.clock.Advance(time.Minute)
		for i, s := range senders {
			if got := s.Send(t.Context(), device, message); got.Action != push.OK {
				t.Fatalf("process %d at %v: Send = %+v", i, b.clock.Now(), got)
			}
		}
	}
	if got := b.service.TokenChanges(); got != 5 {
		t.Errorf("%d tokens in 2 hours, want 5", got)
	}
}

// A refused token of 20 minutes is replaced once, within the attempt.
func TestRefusedProviderTokenIsRenewed(t *testing.T) {
	t.Parallel()
	for name, refuseAll := range map[string]bool{"the new one passes": false, "refused again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			var mu sync.Mutex
			var old string
			b.service.Script(func(p pushservice.Push) *pushservice.Reply {
				mu.Lock()
				defer mu.Unlock()
				if old == "" {
					old = p.Header.Get("Authorization")
					return nil
				}
				if refuseAll || p.Header.Get("Authorization") == old {
					return pushservice.APNsError(403, "ExpiredProviderToken")
				}
				return nil
			})
			if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
				t.Fatalf("Send = %+v", got)
			}
			b.clock.Advance(25 * time.Minute)
			want := push.OK
			if refuseAll {
				want = push.Pause
			}
			if got := b.sender.Send(t.Context(), device, message); got.Action != want {
				t.Errorf("Send = %+v, want %v", got, want)
			}
			if got := b.service.Requests(); got != 3 {
				t.Errorf("%d requests, want 3", got)
			}
		})
	}
}

// Tokens of the other environment: all fail, so the environment rests and no device
// is removed. One bad token among good ones is.
func TestSuspectsUnderTheJudge(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	judge := push.NewJudge(b.sender, b.clock.Now)
	good := strings.Repeat("0b", 32)
	var goodPasses atomic.Bool
	b.service.Script(func(p pushservice.Push) *pushservice.Reply {
		if p.Device == good && goodPasses.Load() {
			return nil
		}
		return pushservice.APNsError(400, "BadDeviceToken")
	})
	send := func(token string) push.Outcome {
		b.clock.Advance(time.Second)
		return judge.Send(t.Context(), push.Target{Provider: push.APNs, Token: token}, message)
	}
	for i := range 10 {
		token := strings.Repeat("0"+string(rune('0'+i)), 32)
		if got := send(token); got.Action != push.Retry && got.Action != push.Pause {
			t.Fatalf("all fail: Send = %+v, want Retry or Pause", got)
		}
	}
	if got := send(good); got.Action != push.Pause || got.Scope != push.ScopeOrigin {
		t.Errorf("all fail: Send = %+v, want Pause of the app and environment", got)
	}
	goodPasses.Store(true)
	if got := send(good); got.Action != push.OK {
		t.Fatalf("Send = %+v", got)
	}
	if got := send(strings.Repeat("01", 32)); got.Action != push.Prune {
		t.Errorf("a neighbour passes: Send = %+v, want Prune", got)
	}
}

func TestWhatTheDeviceGets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		to      push.Target
		message push.Message
		headers map[string]string
		payload string
	}{
		"shown": {
			device, message,
			map[string]string{"Apns-Topic": "com.example.photos", "Apns-Push-Type": "alert", "Apns-Priority": "10"},
			`{"aps":{"alert":{"title":"ann posted a photo","body":"Sunset over the harbour"},"badge":3,"sound":"default"},"id":"1:bob:phone","url":"https://photos.example.com/p/1","data":{"post_id":"1"}}`,
		},
		"another app": {
			push.Target{Token: device.Token, App: "com.example.other"},
			push.Message{ID: "1", Title: "x", Urgency: push.Low},
			map[string]string{"Apns-Topic": "com.example.other", "Apns-Push-Type": "alert", "Apns-Priority": "5"},
			`{"aps":{"alert":{"title":"x"},"badge":0},"id":"1"}`,
		},
		"silent": {
			device,
			push.Message{ID: "1", Silent: true, Badge: 2},
			map[string]string{"Apns-Topic": "com.example.photos", "Apns-Push-Type": "alert", "Apns-Priority": "5"},
			`{"aps":{"badge":2,"content-available":1},"id":"1"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			tt.message.Expires = b.clock.Now().Add(time.Hour)
			for range 2 { // a repeat is the same message
				if got := b.sender.Send(t.Context(), tt.to, tt.message); got.Action != push.OK {
					t.Fatalf("Send = %+v (%v)", got, b.service.Faults())
				}
			}
			received := b.service.Received()
			got := received[0]
			for header, want := range tt.headers {
				if value := got.Header.Get(header); value != want {
					t.Errorf("%s = %q, want %q", header, value, want)
				}
			}
			if diff := cmp.Diff(tt.payload, string(got.Body)); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			if again := received[1]; again.Key != got.Key || again.Header.Get("Apns-Id") != got.Header.Get("Apns-Id") || got.Proto != "HTTP/2.0" {
				t.Errorf("a repeat has another collapse key or id, or %s is not HTTP/2.0", got.Proto)
			}
		})
	}
}

func TestLongMessagesAreShortened(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	m := message
	m.Body = strings.Repeat("ä", 9000)
	if got := b.sender.Send(t.Context(), device, m); got.Action != push.OK {
		t.Fatalf("Send = %+v", got)
	}
	got := b.service.Received()[0]
	if !json.Valid(got.Body) || got.Size > 4096 || got.Size < 4000 {
		t.Errorf("%d bytes arrived, want nearly 4096", got.Size)
	}
}

// A token lives in the environment that gave it out.
func TestEnvironments(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	sandbox, err := pushservice.StartAPNs(pushservice.Options{Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	b.cfg.SandboxURL, b.cfg.URL = b.service.URL(), sandbox.URL()
	to := device
	to.Environment = push.Sandbox
	if got := b.another(t).Send(t.Context(), to, message); got.Action != push.OK {
		t.Fatalf("Send = %+v", got)
	}
	if b.service.Requests() != 1 || sandbox.Requests() != 0 {
		t.Errorf("%d requests to the sandbox and %d to the other, want 1 and 0", b.service.Requests(), sandbox.Requests())
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	tests := map[string]struct {
		target push.Target
		field  string
	}{
		"token":             {push.Target{Token: strings.Repeat("0A", 32), App: "com.example.photos", Environment: push.Sandbox}, ""},
		"long token":        {push.Target{Token: strings.Repeat("0a", 80)}, ""},
		"empty":             {push.Target{}, "token"},
		"not hexadecimal":   {push.Target{Token: strings.Repeat("0g", 32)}, "token"},
		"path in the token": {push.Target{Token: "../" + strings.Repeat("0a", 32)}, "token"},
		"no app":            {push.Target{Token: strings.Repeat("0a", 32), App: "a b"}, "app"},
		"no environment":    {push.Target{Token: strings.Repeat("0a", 32), Environment: "test"}, "environment"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pushtest.WantCheck(t, b.sender, tt.target, tt.field)
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := apns.Config{KeyFile: "k", KeyID: "ABCDEFGHIJ", TeamID: "0123456789", Topic: "com.example.photos"}
	tests := map[string]struct {
		change func(*apns.Config)
		ok     bool
	}{
		"good":           {func(*apns.Config) {}, true},
		"off":            {func(c *apns.Config) { *c = apns.Config{} }, true},
		"no key id":      {func(c *apns.Config) { c.KeyID = "" }, false},
		"short team":     {func(c *apns.Config) { c.TeamID = "ABC" }, false},
		"no topic":       {func(c *apns.Config) { c.Topic = "" }, false},
		"bad address":    {func(c *apns.Config) { c.URL = "apple" }, false},
		"negative limit": {func(c *apns.Config) { c.Timeout = -1 }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			if err := cfg.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate = %v, want ok %v", err, tt.ok)
			}
		})
	}
	if _, err := apns.New(good, apns.Deps{Log: testenv.Logger(t)}); err == nil {
		t.Error("New took a key file that is not there")
	}
	if _, err := apns.New(apns.Config{}, apns.Deps{Log: testenv.Logger(t)}); err == nil {
		t.Error("New took no configuration at all")
	}
}
