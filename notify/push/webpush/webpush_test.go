package webpush_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	webpushgo "github.com/SherClockHolmes/webpush-go"
	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/pushtest"
	"activityfeed/notify/push/webpush"
)

var _ push.Sender = (*webpush.Sender)(nil)

// bed is a sender, a push service and a device of it.
type bed struct {
	service *pushservice.WebPush
	sender  *webpush.Sender
	clock   *testenv.Clock
	device  push.Target
}

func newBed(t *testing.T, change func(*webpush.Config)) *bed {
	t.Helper()
	b := &bed{clock: testenv.NewClock(time.Now())}
	var err error
	if b.service, err = pushservice.StartWebPush(pushservice.Options{Now: b.clock.Now}); err != nil {
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
	b.sender, err = webpush.New(cfg, webpush.Deps{Log: testenv.Logger(t), Now: b.clock.Now, RootCAs: b.service.RootCAs()})
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

var message = pushtest.Message()

func (b *bed) send(t *testing.T, want push.Action) push.Outcome {
	t.Helper()
	got := b.sender.Send(t.Context(), b.device, message)
	if got.Action != want {
		t.Fatalf("Send = %+v, want %v (the service found %v)", got, want, b.service.Faults())
	}
	return got
}

func TestWhatTheDeviceGets(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	m := message
	m.Expires, m.Urgency = b.clock.Now().Add(time.Hour), push.High
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
			pushtest.WantCheck(t, b.sender, target, tt.field)
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
