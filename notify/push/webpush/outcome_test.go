package webpush_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/pushtest"
	"activityfeed/notify/push/webpush"
)

// The table of the package comment, one row each.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const inTenMinutes = "in ten minutes" // a date, made when the test is about to send
	status := func(code int, header ...string) []*pushservice.Reply {
		r := &pushservice.Reply{Status: code, Header: map[string]string{}}
		for i := 0; i < len(header); i += 2 {
			r.Header[header[i]] = header[i+1]
		}
		return []*pushservice.Reply{r}
	}
	then := func(all ...[]*pushservice.Reply) (replies []*pushservice.Reply) {
		for _, r := range all {
			replies = append(replies, r...)
		}
		return replies
	}
	accepted := []*pushservice.Reply{nil}
	tests := map[string]struct {
		// replies are the answers in their order; the last one goes on.
		replies []*pushservice.Reply
		// token is how old our token is when it is refused.
		token time.Duration
		want  push.Outcome
		// requests is how many were made.
		requests int
	}{
		"201":                {accepted, 0, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 201}, 1},
		"200":                {status(200), 0, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 200}, 1},
		"202":                {status(202), 0, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 202}, 1},
		"204":                {status(204), 0, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 204}, 1},
		"299 of UnifiedPush": {status(299), 0, push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 299}, 1},
		"201 with a lower TTL": {
			status(201, "TTL", "60"), 0,
			push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 201, TTL: time.Minute},
			1,
		},
		"404": {status(404), 0, push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 404}, 1},
		"410": {status(410), 0, push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410}, 1},
		"413, then the small one passes": {
			then(status(413), accepted), 0,
			push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 201},
			2,
		},
		"413 always": {status(413), 0, push.Outcome{Action: push.Drop, Reason: push.TooLarge, Status: 413}, 2},
		"429":        {status(429), 0, push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429}, 1},
		"429 with seconds": {
			status(429, "Retry-After", "120"), 0,
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429, RetryAfter: 2 * time.Minute},
			1,
		},
		"429 with a date": {
			status(429, "Retry-After", inTenMinutes), 0,
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429, RetryAfter: 10 * time.Minute},
			1,
		},
		"429 with nonsense": {
			status(429, "Retry-After", "soon"), 0,
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429},
			1,
		},
		"429 with years": {
			status(429, "Retry-After", "99999999"), 0,
			push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 429, RetryAfter: 24 * time.Hour},
			1,
		},
		"406 of WNS": {status(406), 0, push.Outcome{Action: push.Retry, Reason: push.RateLimited, Status: 406}, 1},
		"401 with a young token": {
			status(401), time.Second,
			push.Outcome{Action: push.Suspect, Reason: push.Unauthorized, Scope: push.ScopeOrigin, Guilty: push.Drop, Status: 401},
			1,
		},
		"401 with an old token, the new one passes": {
			then(status(401), accepted), time.Hour,
			push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 201},
			2,
		},
		"403 with an old token and a new one": {
			status(403), time.Hour,
			push.Outcome{Action: push.Suspect, Reason: push.Unauthorized, Scope: push.ScopeOrigin, Guilty: push.Drop, Status: 403},
			2,
		},
		"400 UnauthorizedRegistration": {
			[]*pushservice.Reply{{Status: 400, Body: "<H1>UnauthorizedRegistration</H1>"}},
			time.Second,
			push.Outcome{Action: push.Suspect, Reason: push.Unauthorized, Scope: push.ScopeOrigin, Guilty: push.Drop, Status: 400},
			1,
		},
		"400": {status(400), 0, push.Outcome{Action: push.Drop, Reason: push.Rejected, Strike: true, Status: 400}, 1},
		"405": {status(405), 0, push.Outcome{Action: push.Drop, Reason: push.Rejected, Strike: true, Status: 405}, 1},
		"500": {status(500), 0, push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 500}, 1},
		"503 with seconds": {
			status(503, "Retry-After", "30"), 0,
			push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 503, RetryAfter: 30 * time.Second},
			1,
		},
		"broken connection": {
			[]*pushservice.Reply{{}},
			0,
			push.Outcome{Action: push.Retry, Reason: push.Network, Scope: push.ScopeOrigin, Code: "connection"},
			1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			if tt.token > 0 {
				b.send(t, push.OK)
				b.clock.Advance(tt.token)
			}
			if h := tt.replies[0]; h != nil && h.Header["Retry-After"] == inTenMinutes {
				h.Header["Retry-After"] = b.clock.Now().UTC().Add(10 * time.Minute).Format(http.TimeFormat)
			}
			before := b.service.Requests()
			b.service.Answer(tt.replies...)
			got := b.sender.Send(t.Context(), b.device, message)
			if got.Action == push.OK && tt.replies[0] == nil && got.ProviderID == "" {
				t.Error("the Location of the answer is not kept")
			}
			// A date has no parts of a second.
			got.RetryAfter = got.RetryAfter.Round(30 * time.Second)
			pushtest.WantOutcome(t, b.service, tt.want, got)
			if got := b.service.Requests() - before; got != int64(tt.requests) {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
		})
	}
}

func TestOutcomesWithoutAnswer(t *testing.T) {
	t.Parallel()
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, func(c *webpush.Config) { c.Timeout = 100 * time.Millisecond })
		pushtest.WantTimeout(t, b.service, b.sender, b.device, push.ScopeOrigin)
	})
	t.Run("we are stopping", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		b.service.Script(func(pushservice.Push) *pushservice.Reply {
			cancel()
			return &pushservice.Reply{Status: 201, Delay: time.Minute}
		})
		got := b.sender.Send(ctx, b.device, message)
		want := push.Outcome{Action: push.Retry, Reason: push.Canceled, Code: "canceled"}
		if got != want {
			t.Errorf("Send = %+v, want %+v", got, want)
		}
	})
	t.Run("down, and back", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		b.send(t, push.OK)
		b.service.Close()
		got := b.sender.Send(t.Context(), b.device, message)
		if got.Action != push.Retry || got.Reason != push.Network || got.Scope != push.ScopeOrigin {
			t.Errorf("Send to a service that is down = %+v, want Retry of the origin for the network", got)
		}
		if err := b.service.Restart(); err != nil {
			t.Fatal(err)
		}
		b.send(t, push.OK)
	})
	t.Run("no such host", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, func(c *webpush.Config) { c.PrivateOrigins = []string{"https://nowhere.invalid"} })
		b.device.Endpoint = "https://nowhere.invalid/push/1"
		got := b.sender.Send(t.Context(), b.device, message)
		if got.Action != push.Retry || got.Reason != push.Network || got.Code != "dns" {
			t.Errorf("Send = %+v, want Retry for the network, dns", got)
		}
	})
	t.Run("a certificate of nobody we know", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		other, err := pushservice.StartWebPush(pushservice.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		sender, err := webpush.New(webpush.Config{
			Subject: "mailto:ops@photos.example.com", KeyFile: filepath.Join(t.TempDir(), "k"), PrivateOrigins: []string{b.service.URL()},
		}, webpush.Deps{Log: testenv.Logger(t), RootCAs: other.RootCAs()})
		if err != nil {
			t.Fatal(err)
		}
		got := sender.Send(t.Context(), b.device, message)
		if got.Action != push.Retry || got.Reason != push.Network || got.Code != "tls" {
			t.Errorf("Send = %+v, want Retry for the network, tls", got)
		}
	})
	t.Run("silent, for Apple", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		to := b.device
		to.Endpoint = "https://web.push.apple.com/QGm"
		got := b.sender.Send(t.Context(), to, push.Message{ID: "1", Silent: true})
		if want := (push.Outcome{Action: push.Drop, Reason: push.Unsupported}); got != want {
			t.Errorf("Send = %+v, want %+v", got, want)
		}
	})
	t.Run("too late", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, nil)
		late := message
		late.Expires = b.clock.Now().Add(-time.Second)
		got := b.sender.Send(t.Context(), b.device, late)
		if want := (push.Outcome{Action: push.Drop, Reason: push.Expired}); got != want || b.service.Requests() != 0 {
			t.Errorf("Send = %+v and %d requests, want %+v and none", got, b.service.Requests(), want)
		}
	})
}

// A redirect would lead around the guard.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer inside.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		b := newBed(t, nil)
		b.service.Answer(&pushservice.Reply{Status: status, Header: map[string]string{"Location": inside.URL}})
		got := b.sender.Send(t.Context(), b.device, message)
		if want := (push.Outcome{Action: push.Drop, Reason: push.Redirected, Status: status}); got != want {
			t.Errorf("Send answered %d = %+v, want %+v", status, got, want)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}
