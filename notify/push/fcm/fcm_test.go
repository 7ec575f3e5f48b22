package fcm_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/fcm"
	"activityfeed/notify/push/pushtest"
)

var _ push.Sender = (*fcm.Sender)(nil)

// bed is a sender and its push service.
type bed struct {
	service *pushservice.FCM
	sender  *fcm.Sender
	clock   *testenv.Clock
}

func newBed(t *testing.T, change func(*fcm.Config)) *bed {
	t.Helper()
	b := &bed{clock: testenv.NewClock(time.Now())}
	var err error
	if b.service, err = pushservice.StartFCM(pushservice.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.service.Close)
	account, err := b.service.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	cfg := fcm.Config{Credentials: pushtest.File(t, "account.json", account), BaseURL: b.service.URL()}
	if change != nil {
		change(&cfg)
	}
	b.sender, err = fcm.New(cfg, fcm.Deps{Log: testenv.Logger(t), Now: b.clock.Now, RootCAs: b.service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.sender.Close)
	return b
}

var (
	device  = push.Target{Provider: push.FCM, Token: "token-of-bob:APA91", Platform: "android"}
	message = pushtest.Message()
)

// quota is FCM's answer to too many messages, of whom the subject says.
func quota(subject string, header map[string]string) *pushservice.Reply {
	return &pushservice.Reply{Status: 429, Header: header, Body: `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
		{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"},
		{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"` + subject + `"}]}]}}`}
}

// What is more than the project may send waits without asking FCM.
func TestQuotaOfMessages(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(cfg *fcm.Config) { cfg.PerMinute = 1 })
	if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
		t.Fatalf("the first push: %+v, want it delivered", got)
	}
	got := b.sender.Send(t.Context(), device, message)
	if wait := got.RetryAfter; wait <= 0 || wait > time.Minute {
		t.Errorf("the second one waits %s, want what is left of a minute", wait)
	}
	got.RetryAfter = 0
	if want := (push.Outcome{Action: push.Retry, Reason: push.RateLimited, Scope: push.ScopeProvider}); got != want {
		t.Errorf("the second push: %+v, want %+v", got, want)
	}
	if n := len(b.service.Received()); n != 1 {
		t.Errorf("FCM got %d pushes, want 1", n)
	}
	b.clock.Advance(time.Minute)
	if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
		t.Errorf("a minute later: %+v, want it delivered", got)
	}
}

// The table of the package comment, one row each.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	failure := pushservice.FCMError
	tests := map[string]struct {
		reply    *pushservice.Reply
		platform string
		want     push.Outcome
	}{
		"200": {nil, "android", push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 200}},
		"404 UNREGISTERED": {
			failure(404, "NOT_FOUND", "UNREGISTERED"), "android",
			push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 404, Code: "UNREGISTERED"},
		},
		"404 of the project": {
			failure(404, "NOT_FOUND", ""), "android",
			push.Outcome{Action: push.Pause, Reason: push.Misconfigured, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 404, Code: "NOT_FOUND"},
		},
		"403 SENDER_ID_MISMATCH": {
			failure(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), "android",
			push.Outcome{Action: push.Suspect, Reason: push.WrongApp, Scope: push.ScopeProvider, Guilty: push.Prune, Status: 403, Code: "SENDER_ID_MISMATCH"},
		},
		"403 of the account": {
			failure(403, "PERMISSION_DENIED", ""), "android",
			push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 403, Code: "PERMISSION_DENIED"},
		},
		"400 INVALID_ARGUMENT, no field": {
			failure(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), "android",
			push.Outcome{Action: push.Suspect, Reason: push.BadToken, Scope: push.ScopeProvider, Guilty: push.Prune, Status: 400, Code: "INVALID_ARGUMENT"},
		},
		"400 INVALID_ARGUMENT of the token": {
			failure(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"), "android",
			push.Outcome{Action: push.Suspect, Reason: push.BadToken, Scope: push.ScopeProvider, Guilty: push.Prune, Status: 400, Code: "INVALID_ARGUMENT"},
		},
		"400 INVALID_ARGUMENT of our fields": {
			failure(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.ttl"), "android",
			push.Outcome{Action: push.Drop, Reason: push.Rejected, Status: 400, Code: "INVALID_ARGUMENT"},
		},
		"400 without FCM's detail": {
			failure(400, "INVALID_ARGUMENT", ""), "android",
			push.Outcome{Action: push.Drop, Reason: push.Rejected, Status: 400, Code: "INVALID_ARGUMENT"},
		},
		"429 QUOTA_EXCEEDED": {
			quota("project:test", nil), "android",
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 429, Code: "QUOTA_EXCEEDED"},
		},
		"429 with Retry-After": {
			quota("project:test", map[string]string{"Retry-After": "7"}), "android",
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Scope: push.ScopeProvider, RetryAfter: 7 * time.Second, Status: 429, Code: "QUOTA_EXCEEDED"},
		},
		"429 of the device": {
			quota("device:abc", nil), "android",
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, RetryAfter: time.Minute, Status: 429, Code: "QUOTA_EXCEEDED"},
		},
		"401 THIRD_PARTY_AUTH_ERROR": {
			failure(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), "ios",
			push.Outcome{Action: push.Pause, Reason: push.Misconfigured, Scope: push.ScopeOrigin, RetryAfter: time.Minute, Status: 401, Code: "THIRD_PARTY_AUTH_ERROR"},
		},
		"401 THIRD_PARTY_AUTH_ERROR, platform unknown": {
			failure(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), "",
			push.Outcome{Action: push.Pause, Reason: push.Misconfigured, RetryAfter: time.Minute, Status: 401, Code: "THIRD_PARTY_AUTH_ERROR"},
		},
		"413": {
			&pushservice.Reply{Status: 413}, "android",
			push.Outcome{Action: push.Drop, Reason: push.TooLarge, Status: 413},
		},
		"500 INTERNAL": {
			failure(500, "INTERNAL", "INTERNAL"), "android",
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, Status: 500, Code: "INTERNAL"},
		},
		"503 UNAVAILABLE with Retry-After": {
			&pushservice.Reply{Status: 503, Header: map[string]string{"Retry-After": "20"}, Body: "<html>busy</html>"}, "android",
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, RetryAfter: 20 * time.Second, Status: 503},
		},
		"broken connection": {
			&pushservice.Reply{}, "android",
			push.Outcome{Action: push.Retry, Reason: push.Network, Scope: push.ScopeProvider, Code: "connection"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			b.service.Answer(tt.reply)
			to := device
			to.Platform = tt.platform
			got := b.sender.Send(t.Context(), to, message)
			if tt.reply == nil && !strings.HasPrefix(got.ProviderID, "projects/test-project/messages/") {
				t.Errorf("ProviderID = %q, want the message's name", got.ProviderID)
			}
			pushtest.WantOutcome(t, b.service, tt.want, got)
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(c *fcm.Config) { c.Timeout = 200 * time.Millisecond })
	// The access token is there: where its exchange takes longer, that is another outcome.
	testenv.Await(t, "an access token", func() bool {
		b.clock.Advance(10 * time.Second) // after a failure it is asked for again
		return b.sender.Send(t.Context(), device, message).Action == push.OK
	})
	pushtest.WantTimeout(t, b.service, b.sender, device, push.ScopeProvider)
}

// One access token serves all pushes of an hour, whoever asks at once.
func TestAccessTokensAreCached(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	sendAll := func() {
		var senders sync.WaitGroup
		for range 10 {
			senders.Go(func() {
				if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
					t.Errorf("Send = %+v", got)
				}
			})
		}
		senders.Wait()
	}
	sendAll()
	if got := b.service.Exchanges(); got != 1 {
		t.Errorf("%d access tokens for 10 pushes at once, want 1", got)
	}
	b.clock.Advance(56 * time.Minute)
	sendAll()
	if got := b.service.Exchanges(); got != 2 {
		t.Errorf("%d access tokens after 56 minutes, want 2: the first one ends soon", got)
	}
}

// 401: a new access token once, and if that is refused too, a pause.
func TestRefusedAccessTokens(t *testing.T) {
	t.Parallel()
	t.Run("the new one passes", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
			t.Fatalf("Send = %+v", got)
		}
		b.service.Revoke()
		b.clock.Advance(2 * time.Minute)
		if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
			t.Errorf("Send = %+v, want OK with a new access token", got)
		}
		if got := b.service.Exchanges(); got != 2 {
			t.Errorf("%d access tokens, want 2", got)
		}
	})
	t.Run("refused again", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		b.service.Answer(pushservice.FCMError(401, "UNAUTHENTICATED", ""))
		want := push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 401}
		for range 5 {
			got := b.sender.Send(t.Context(), device, message)
			got.Code = ""
			if got != want {
				t.Errorf("Send = %+v, want %+v", got, want)
			}
		}
		b.clock.Advance(2 * time.Minute)
		got := b.sender.Send(t.Context(), device, message)
		if got.Code = ""; got != want {
			t.Errorf("Send with a new access token = %+v, want %+v", got, want)
		}
		if got := b.service.Exchanges(); got != 2 {
			t.Errorf("%d access tokens for 6 refused pushes, want 2", got)
		}
	})
}

func TestTokenServiceFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reply *pushservice.Reply
		want  push.Outcome
	}{
		"the account is refused": {
			&pushservice.Reply{Status: 400, Body: `{"error":"invalid_grant"}`},
			push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 400},
		},
		"busy": {
			&pushservice.Reply{Status: 503, Header: map[string]string{"Retry-After": "9"}},
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, RetryAfter: 9 * time.Second, Status: 503},
		},
		"too many": {
			&pushservice.Reply{Status: 429},
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, Status: 429},
		},
		"no token in the answer": {
			&pushservice.Reply{Status: 200, Body: "<html>log in</html>"},
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider},
		},
		"broken connection": {
			&pushservice.Reply{},
			push.Outcome{Action: push.Retry, Reason: push.Network, Scope: push.ScopeProvider, Code: "connection"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			b.service.TokenReply(tt.reply)
			if got := b.sender.Send(t.Context(), device, message); got != tt.want {
				t.Errorf("Send = %+v, want %+v", got, tt.want)
			}
			// It comes back, and is asked again.
			b.service.TokenReply(nil)
			b.clock.Advance(10 * time.Second)
			if got := b.sender.Send(t.Context(), device, message); got.Action != push.OK {
				t.Errorf("afterwards Send = %+v, want OK", got)
			}
		})
	}
}

// A token service that hangs holds every push up once, not one after the other, and
// a stop does not wait for it.
func TestTokenServiceHangs(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(c *fcm.Config) { c.Timeout = 300 * time.Millisecond })
	b.service.TokenReply(&pushservice.Reply{Status: 200, Delay: time.Minute})
	began := time.Now()
	var senders sync.WaitGroup
	const pushes = 100
	for range pushes {
		senders.Go(func() {
			got := b.sender.Send(t.Context(), device, message)
			if got.Action != push.Retry || got.Reason != push.Timeout || got.Scope != push.ScopeProvider {
				t.Errorf("Send = %+v, want Retry of the provider for a timeout", got)
			}
		})
	}
	senders.Wait()
	if took := time.Since(began); took > pushes*100*time.Millisecond {
		t.Errorf("%d pushes waited %v for a deadline of 0.3 s", pushes, took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := b.sender.Send(ctx, device, message); got.Action != push.Retry || got.Reason != push.Canceled {
		t.Errorf("Send while stopping = %+v, want Retry, canceled", got)
	}
}

func TestWhatTheDeviceGets(t *testing.T) {
	t.Parallel()
	type content struct {
		Message pushservice.FCMMessage `json:"message"`
	}
	send := func(t *testing.T, to push.Target, m push.Message) pushservice.FCMMessage {
		t.Helper()
		b := newBed(t, nil)
		m.Expires = b.clock.Now().Add(time.Hour)
		if got := b.sender.Send(t.Context(), to, m); got.Action != push.OK {
			t.Fatalf("Send = %+v (%v)", got, b.service.Faults())
		}
		received := b.service.Received()[0]
		if received.Proto != "HTTP/2.0" || received.Size > 4096 {
			t.Errorf("%s with %d bytes, want HTTP/2.0 with 4096 at most", received.Proto, received.Size)
		}
		var c content
		if err := json.Unmarshal(received.Body, &c); err != nil {
			t.Fatal(err)
		}
		return c.Message
	}
	t.Run("shown", func(t *testing.T) {
		t.Parallel()
		m := message
		m.Urgency = push.High
		got := send(t, device, m)
		if got.Token != device.Token || got.Notification.Title != m.Title || got.Notification.Body != m.Body ||
			got.Data["url"] != m.URL || got.Data["post_id"] != "1" || got.Android.Priority != "HIGH" ||
			got.Android.TTL != "3600s" || got.Android.Notification.Tag != got.Android.CollapseKey || got.Android.Notification.NotificationCount != 3 {
			t.Errorf("received %+v, android %+v", got, got.Android)
		}
		if h := got.APNs.Headers; h["apns-priority"] != "10" || h["apns-collapse-id"] != got.Android.CollapseKey || len(h["apns-collapse-id"]) > 64 {
			t.Errorf("apns headers %v", h)
		}
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		m := push.Message{ID: "1", Silent: true, Badge: 2, Urgency: push.High}
		got := send(t, device, m)
		if got.Notification != nil || got.Android.Notification != nil || got.Data["silent"] != "true" || got.Data["badge"] != "2" ||
			got.Android.Priority != "NORMAL" || got.APNs.Headers["apns-priority"] != "5" || string(got.APNs.Payload["aps"]) != `{"badge":2,"content-available":1}` {
			t.Errorf("received %+v, aps %s", got, got.APNs.Payload["aps"])
		}
	})
	t.Run("by installation id", func(t *testing.T) {
		t.Parallel()
		to := device
		to.TokenKind = push.FCMFID
		if got := send(t, to, message); got.FID != device.Token || got.Token != "" {
			t.Errorf("fid %q and token %q, want the fid alone", got.FID, got.Token)
		}
	})
	t.Run("long", func(t *testing.T) {
		t.Parallel()
		m := message
		m.Body = strings.Repeat("ä", 9000)
		if got := send(t, device, m); !strings.HasSuffix(got.Notification.Body, "ä…") || len(got.Notification.Body) < 2000 || got.Notification.Title != m.Title {
			t.Errorf("title %q, body of %d bytes", got.Notification.Title, len(got.Notification.Body))
		}
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	tests := map[string]struct {
		target push.Target
		field  string
	}{
		"token":      {push.Target{Token: "abc:APA91"}, ""},
		"fid":        {push.Target{Token: "fid1", TokenKind: push.FCMFID}, ""},
		"empty":      {push.Target{}, "token"},
		"with space": {push.Target{Token: "a b"}, "token"},
		"too long":   {push.Target{Token: strings.Repeat("x", 5000)}, "token"},
		"other kind": {push.Target{Token: "abc", TokenKind: "apns"}, "token_kind"},
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
	for name, content := range map[string]string{"empty": "", "half": `{"type":"service_account"`, "a user's": `{"type":"authorized_user"}`} {
		path := pushtest.File(t, "account.json", []byte(content))
		if _, err := fcm.New(fcm.Config{Credentials: path}, fcm.Deps{Log: testenv.Logger(t)}); err == nil {
			t.Errorf("New took a service account that is %s", name)
		}
	}
	if err := (fcm.Config{}).Validate(); err != nil {
		t.Errorf("Validate of what means no FCM: %v", err)
	}
	if _, err := fcm.New(fcm.Config{}, fcm.Deps{Log: testenv.Logger(t)}); err == nil {
		t.Error("New took no configuration at all")
	}
	if err := (fcm.Config{Credentials: "x", BaseURL: "fcm"}).Validate(); err == nil {
		t.Error("Validate took an address that is none")
	}
}
