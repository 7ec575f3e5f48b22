package webpush_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	webpushgo "github.com/SherClockHolmes/webpush-go"
	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/webpush"
)

var _ push.Sender = (*webpush.Sender)(nil)

// clock is a clock that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// bed is a sender, a push service and a device of it.
type bed struct {
	service *pushservice.WebPush
	sender  *webpush.Sender
	clock   *clock
	device  push.Target
}

func newBed(t *testing.T, change func(*webpush.Config)) *bed {
	t.Helper()
	b := &bed{clock: &clock{}}
	var err error
	if b.service, err = pushservice.StartWebPush(pushservice.Options{Now: b.clock.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.service.Close)
	cfg := webpush.Config{
		Subject: "mailto:ops@photos.example.com", KeyFile: filepath.Join(t.TempDir(), "vapid.pem"),
		PrivateOrigins: []string{b.service.URL()},
	}
	if change != nil {
		change(&cfg)
	}
	b.sender, err = webpush.New(cfg, webpush.Deps{Log: testenv.Logger(t), Now: b.clock.now, RootCAs: b.service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.sender.Close)
	b.device = b.subscribe(t)
	return b
}

func (b *bed) subscribe(t *testing.T) push.Target {
	t.Helper()
	sub, err := b.service.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	return push.Target{Provider: push.WebPush, Endpoint: sub.Endpoint, P256dh: sub.P256dh, Auth: sub.Auth}
}

var message = push.Message{
	ID: "1:bob:phone", Title: "ann posted a photo", Body: "Sunset over the harbour", URL: "https://photos.example.com/p/1",
	CollapseKey: "posts of ann", Data: map[string]string{"post_id": "1"}, Badge: 3,
}

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
				b.clock.advance(tt.token)
			}
			if h := tt.replies[0]; h != nil && h.Header["Retry-After"] == inTenMinutes {
				h.Header["Retry-After"] = time.Now().UTC().Add(10 * time.Minute).Format(http.TimeFormat)
			}
			before := b.service.Requests()
			script(b.service, tt.replies)
			got := b.sender.Send(t.Context(), b.device, message)
			if got.Action == push.OK && tt.replies[0] == nil && got.ProviderID == "" {
				t.Error("the Location of the answer is not kept")
			}
			got.ProviderID = ""
			// A date has no parts of a second, and time goes on.
			got.RetryAfter = got.RetryAfter.Round(30 * time.Second)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Send (-want +got):\n%s", diff)
			}
			if got := b.service.Requests() - before; got != int64(tt.requests) {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			if faults := b.service.Faults(); len(faults) > 0 {
				t.Errorf("the service found: %v", faults)
			}
		})
	}
}

// script answers with replies in their order, the last one for ever.
func script(service *pushservice.WebPush, replies []*pushservice.Reply) {
	var mu sync.Mutex
	service.Script(func(pushservice.Push) *pushservice.Reply {
		mu.Lock()
		defer mu.Unlock()
		reply := replies[0]
		if len(replies) > 1 {
			replies = replies[1:]
		}
		return reply
	})
}

func (b *bed) send(t *testing.T, want push.Action) push.Outcome {
	t.Helper()
	got := b.sender.Send(t.Context(), b.device, message)
	if got.Action != want {
		t.Fatalf("Send = %+v, want %v (the service found %v)", got, want, b.service.Faults())
	}
	return got
}

func TestOutcomesWithoutAnswer(t *testing.T) {
	t.Parallel()
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		b := newBed(t, func(c *webpush.Config) { c.Timeout = 100 * time.Millisecond })
		script(b.service, []*pushservice.Reply{{Status: 201, Delay: time.Minute}})
		got := b.sender.Send(t.Context(), b.device, message)
		want := push.Outcome{Action: push.Retry, Reason: push.Timeout, Scope: push.ScopeOrigin, Code: "timeout"}
		if got != want {
			t.Errorf("Send = %+v, want %+v", got, want)
		}
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
		late.Expires = time.Now().Add(-time.Second)
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
		script(b.service, []*pushservice.Reply{{Status: status, Header: map[string]string{"Location": inside.URL}}})
		got := b.sender.Send(t.Context(), b.device, message)
		if want := (push.Outcome{Action: push.Drop, Reason: push.Redirected, Status: status}); got != want {
			t.Errorf("Send answered %d = %+v, want %+v", status, got, want)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestWhatTheDeviceGets(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	m := message
	m.Expires, m.Urgency = time.Now().Add(time.Hour), push.High
	if got := b.sender.Send(t.Context(), b.device, m); got.Action != push.OK {
		t.Fatalf("Send = %+v (%v)", got, b.service.Faults())
	}
	got := b.service.Received()[0]
	var content map[string]any
	if err := json.Unmarshal(got.Body, &content); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"id": m.ID, "title": m.Title, "body": m.Body, "url": m.URL, "badge": 3.0,
		"data": map[string]any{"post_id": "1"}, "tag": got.Key,
	}
	if diff := cmp.Diff(want, content); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if got.Proto != "HTTP/2.0" || got.Header.Get("Urgency") != "high" || got.Header.Get("TTL") != "3600" {
		t.Errorf("%s, Urgency %q, TTL %q, want HTTP/2.0, high, 3600", got.Proto, got.Header.Get("Urgency"), got.Header.Get("TTL"))
	}
	if padding, _ := strconv.Atoi(got.Header.Get("X-Padding")); (len(got.Body)+padding)%256 != 0 {
		t.Errorf("content of %d bytes has %d bytes of padding, want a multiple of 256", len(got.Body), padding)
	}
}

func TestRepeatsCarryTheSameTopic(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	other := message
	other.CollapseKey = "posts of eve"
	for _, m := range []push.Message{message, message, other} {
		if got := b.sender.Send(t.Context(), b.device, m); got.Action != push.OK {
			t.Fatalf("Send = %+v", got)
		}
	}
	got := b.service.Received()
	if got[0].Key != got[1].Key || got[0].Key == got[2].Key || len(got[0].Key) != 32 {
		t.Errorf("topics %q, %q and %q of another key, want 32 characters, the first two alike", got[0].Key, got[1].Key, got[2].Key)
	}
}

// No message is lost for its size.
func TestLongMessagesAreShortened(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		message push.Message
		check   func(title, body string) bool
	}{
		"body": {
			push.Message{ID: "1", Title: "ann", Body: strings.Repeat("ä\"", 5000)},
			func(title, body string) bool {
				return title == "ann" && strings.HasSuffix(body, "…") && len(body) > 2000
			},
		},
		"data": {
			push.Message{ID: "1", Title: "ann", Body: "short", Data: map[string]string{"x": strings.Repeat("x", 8000)}},
			func(title, _ string) bool { return title == "ann" },
		},
		"title": {
			push.Message{ID: "1", Title: strings.Repeat("👩‍👩‍👧", 3000), Body: "short"},
			func(title, body string) bool {
				return strings.HasSuffix(title, "👧…") && len(title) > 3000 && body == ""
			},
		},
		"url": {
			push.Message{ID: "1", Title: "ann", URL: "https://x.example.com/" + strings.Repeat("x", 8000)},
			func(string, string) bool { return true },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			if got := b.sender.Send(t.Context(), b.device, tt.message); got.Action != push.OK {
				t.Fatalf("Send = %+v", got)
			}
			got := b.service.Received()[0]
			var content struct{ ID, Title, Body string }
			if err := json.Unmarshal(got.Body, &content); err != nil {
				t.Fatal(err)
			}
			if got.Size > 4096 || content.ID != "1" || !tt.check(content.Title, content.Body) {
				t.Errorf("%d bytes arrived: %.80q, %.80q", got.Size, content.Title, content.Body)
			}
		})
	}
}

// A service that takes less than we thought gets the title alone.
func TestSmallerAfterRefusedSize(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.service.Limit(1024)
	m := message
	m.Body = strings.Repeat("x", 3000)
	if got := b.sender.Send(t.Context(), b.device, m); got.Action != push.OK {
		t.Fatalf("Send = %+v", got)
	}
	var content struct{ Title, Body string }
	if err := json.Unmarshal(b.service.Received()[0].Body, &content); err != nil {
		t.Fatal(err)
	}
	if content.Title != m.Title || content.Body != "" {
		t.Errorf("arrived %q, %.20q, want the title alone", content.Title, content.Body)
	}
}

// One signature serves all pushes to an origin for six hours.
func TestTokensAreCached(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	for range 3 {
		b.send(t, push.OK)
	}
	b.clock.advance(7 * time.Hour)
	b.send(t, push.OK)
	tokens := map[string]bool{}
	for _, p := range b.service.Received() {
		tokens[p.Header.Get("Authorization")] = true
	}
	if len(tokens) != 2 {
		t.Errorf("%d tokens in 7 hours, want 2", len(tokens))
	}
}

// A service that refuses everything does not make us sign for every push.
func TestRefusedTokensAreRenewedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.send(t, push.OK)
	b.clock.advance(time.Hour)
	script(b.service, []*pushservice.Reply{{Status: 403}})
	for range 5 {
		b.send(t, push.Suspect)
	}
	// 1 accepted, 5 refused, 1 of them tried again.
	if got := b.service.Requests(); got != 7 {
		t.Errorf("%d requests, want 7", got)
	}
}

// Over the judge: bad credentials prune nobody, whatever the number of devices.
func TestBadCredentialsPauseAndPruneNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	judge := push.NewJudge(b.sender, b.clock.now)
	script(b.service, []*pushservice.Reply{{Status: 403}})
	var last push.Outcome
	for range 20 {
		last = judge.Send(t.Context(), b.subscribe(t), message)
		if last.Action != push.Retry && last.Action != push.Pause {
			t.Fatalf("Send = %+v, want Retry or Pause", last)
		}
		b.clock.advance(time.Second)
	}
	if last.Action != push.Pause || last.Scope != push.ScopeOrigin {
		t.Errorf("after 20 devices Send = %+v, want Pause of the origin", last)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(c *webpush.Config) { c.PrivateOrigins = []string{"http://10.0.0.5:8080"} })
	good := b.device
	good.Endpoint = "https://updates.push.services.mozilla.com/wpush/v2/abc"
	tests := map[string]struct {
		change func(*push.Target)
		field  string // empty: accepted
	}{
		"browser":                 {func(*push.Target) {}, ""},
		"UnifiedPush":             {func(to *push.Target) { to.Endpoint = "https://ntfy.example.com:8443/up?token=x" }, ""},
		"private origin, named":   {func(to *push.Target) { to.Endpoint = "http://10.0.0.5:8080/up" }, ""},
		"private origin, another": {func(to *push.Target) { to.Endpoint = "http://10.0.0.5:8081/up" }, "endpoint"},
		"http":                    {func(to *push.Target) { to.Endpoint = "http://push.example.com/x" }, "endpoint"},
		"address":                 {func(to *push.Target) { to.Endpoint = "https://93.184.216.34/x" }, "endpoint"},
		"address, version 6":      {func(to *push.Target) { to.Endpoint = "https://[2a00::1]/x" }, "endpoint"},
		"address as a number":     {func(to *push.Target) { to.Endpoint = "https://2130706433/x" }, "endpoint"},
		"address in parts":        {func(to *push.Target) { to.Endpoint = "https://0x7f.0.0.1/x" }, "endpoint"},
		"localhost":               {func(to *push.Target) { to.Endpoint = "https://localhost/x" }, "endpoint"},
		"one label":               {func(to *push.Target) { to.Endpoint = "https://redis/x" }, "endpoint"},
		"internal name":           {func(to *push.Target) { to.Endpoint = "https://metadata.google.internal/x" }, "endpoint"},
		"user":                    {func(to *push.Target) { to.Endpoint = "https://a@push.example.com/x" }, "endpoint"},
		"fragment":                {func(to *push.Target) { to.Endpoint = "https://push.example.com/x#y" }, "endpoint"},
		"no URL":                  {func(to *push.Target) { to.Endpoint = "push" }, "endpoint"},
		"empty":                   {func(to *push.Target) { to.Endpoint = "" }, "endpoint"},
		"too long":                {func(to *push.Target) { to.Endpoint += strings.Repeat("x", 3000) }, "endpoint"},
		"no key":                  {func(to *push.Target) { to.P256dh = nil }, "p256dh"},
		"not on the curve":        {func(to *push.Target) { to.P256dh = append([]byte{4}, make([]byte, 64)...) }, "p256dh"},
		"short secret":            {func(to *push.Target) { to.Auth = []byte{1} }, "auth"},
		"long secret":             {func(to *push.Target) { to.Auth = make([]byte, 32) }, "auth"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := good
			tt.change(&target)
			err := b.sender.Check(target)
			field := ""
			if f := fault.Of(err); f != nil {
				field = f.Field
			}
			if field != tt.field || (err == nil) != (tt.field == "") {
				t.Errorf("Check = %v (field %q), want field %q", err, field, tt.field)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config webpush.Config
		ok     bool
	}{
		"mail":             {webpush.Config{Subject: "mailto:ops@example.com", KeyFile: "k"}, true},
		"page":             {webpush.Config{Subject: "https://photos.example.com/contact", KeyFile: "k"}, true},
		"off":              {webpush.Config{}, true},
		"mail twice":       {webpush.Config{Subject: "mailto:mailto:ops@example.com", KeyFile: "k"}, false},
		"bare mail":        {webpush.Config{Subject: "ops@example.com", KeyFile: "k"}, false},
		"mail, localhost":  {webpush.Config{Subject: "mailto:root@localhost", KeyFile: "k"}, false},
		"mail, local":      {webpush.Config{Subject: "mailto:root@nas.local", KeyFile: "k"}, false},
		"mail, invalid":    {webpush.Config{Subject: "mailto:x@example.invalid", KeyFile: "k"}, false},
		"page, localhost":  {webpush.Config{Subject: "https://localhost:8080", KeyFile: "k"}, false},
		"page, address":    {webpush.Config{Subject: "https://192.0.2.1/", KeyFile: "k"}, false},
		"page, not https":  {webpush.Config{Subject: "http://photos.example.com", KeyFile: "k"}, false},
		"negative timeout": {webpush.Config{Subject: "mailto:ops@example.com", KeyFile: "k", Timeout: -1}, false},
		"origin with path": {webpush.Config{Subject: "mailto:ops@example.com", KeyFile: "k", PrivateOrigins: []string{"https://a.b/c"}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := tt.config.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate = %v, want ok %v", err, tt.ok)
			}
		})
	}
}

func TestNewNeedsSubjectAndKey(t *testing.T) {
	t.Parallel()
	for _, cfg := range []webpush.Config{{}, {KeyFile: "k"}, {Subject: "mailto:ops@example.com"}} {
		if _, err := webpush.New(cfg, webpush.Deps{Log: testenv.Logger(t)}); err == nil {
			t.Errorf("New took %+v", cfg)
		}
	}
}

func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "vapid.pem")
	// Many starters at once agree on one key.
	keys := make([]string, 8)
	var starters sync.WaitGroup
	for i := range keys {
		starters.Go(func() {
			key, err := webpush.LoadKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			raw, err := key.Bytes()
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(raw)
		})
	}
	starters.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two starters have different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file is %v, %v, want -rw-------", info.Mode(), err)
	}
	given, err := webpush.ParseKey(base64.RawURLEncoding.EncodeToString([]byte(keys[0])))
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := given.Bytes(); string(raw) != keys[0] {
		t.Error("the key given as text is another one")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A damaged key is never replaced: that would end all subscriptions.
func TestDamagedKeyStaysAnError(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "half": "-----BEGIN PRIVATE KEY-----\nMIGH", "other": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		path := filepath.Join(t.TempDir(), "vapid.pem")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := webpush.LoadKey(path); err == nil {
			t.Errorf("LoadKey of a file that is %s succeeded", name)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("LoadKey changed a file that is %s", name)
		}
	}
}

// A second implementation: what webpush-go sends, our endpoint reads, so the two
// agree on encryption and VAPID.
func TestEndpointTakesWhatAnotherLibrarySends(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	private, public, err := webpushgo.GenerateVAPIDKeys()
	if err != nil {
		t.Fatal(err)
	}
	client := b.service.Client()
	resp, err := webpushgo.SendNotificationWithContext(t.Context(), []byte("hello from afar"), &webpushgo.Subscription{
		Endpoint: b.device.Endpoint,
		Keys: webpushgo.Keys{
			P256dh: base64.RawURLEncoding.EncodeToString(b.device.P256dh),
			Auth:   base64.RawURLEncoding.EncodeToString(b.device.Auth),
		},
	}, &webpushgo.Options{HTTPClient: client, Subscriber: "ops@example.com", VAPIDPublicKey: public, VAPIDPrivateKey: private, TTL: 60, Topic: "news"})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := b.service.Received()
	if resp.StatusCode != http.StatusCreated || len(got) != 1 || string(got[0].Body) != "hello from afar" || got[0].Key != "news" {
		t.Errorf("status %d, received %v, faults %v", resp.StatusCode, got, b.service.Faults())
	}
}
