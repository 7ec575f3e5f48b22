package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/webpush"
	"activityfeed/web"
)

// notification is what the browser shows.
type notification struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	URL   string `json:"url"`
}

// page is a browser with the page of push/ open and its service worker at work.
type page struct {
	browser      *testenv.Browser
	session      string
	origin       string
	registration string
	// pushes is how many were delivered.
	pushes int
}

// The whole way of a push: our sender encrypts it, a push service takes it, a
// browser's keys decrypt it, a real Chromium's service worker shows it, and a click
// opens the post.
func TestPushIsShownAndOpensThePost(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	send := pushWay(t)

	message := push.Message{
		ID: "1", Title: "ann posted a photo", Body: "Sunset over the harbour", CollapseKey: "posts of ann",
		URL: p.origin + "/p/1", Badge: 1,
	}
	shown := notification{Title: message.Title, Body: message.Body, URL: message.URL}
	p.deliver(t, send(message))
	p.await(t, []notification{shown})

	// A repeat, and what comes later under the same key, replaces it.
	message.Body = "ann posted 2 photos"
	p.deliver(t, send(message))
	shown.Body = message.Body
	p.await(t, []notification{shown})

	// Another key stands beside it, and goes when it was read elsewhere.
	other := push.Message{ID: "2", Title: "bob follows you", CollapseKey: "followers", Badge: 2}
	p.deliver(t, send(other))
	p.await(t, []notification{shown, {Title: other.Title}})
	p.deliver(t, send(push.Message{ID: "3", Silent: true, CollapseKey: "followers", Badge: 1}))
	p.await(t, []notification{shown})

	p.click(t)
	var at string
	p.poll(t, "the post to open", 30*time.Second, func() bool {
		return p.browser.Eval(p.session, "location.pathname", &at) == nil && at == "/p/1"
	})
	p.await(t, []notification{})
}

// openPage serves the pages and opens them in a browser that may notify.
func openPage(t *testing.T) *page {
	t.Helper()
	b := testenv.Chromium(t)
	mux := http.NewServeMux()
	mux.Handle("GET /push/", web.Handler())
	mux.HandleFunc("GET /p/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>the post</title>")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p := &page{browser: b, origin: server.URL}

	b.Call("", "Browser.grantPermissions", map[string]any{"origin": p.origin, "permissions": []string{"notifications"}}, nil)
	var target struct {
		ID string `json:"targetId"`
	}
	b.Call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	p.session = p.attach(target.ID)
	b.Call(p.session, "ServiceWorker.enable", nil, nil)
	b.Call(p.session, "BackgroundService.startObserving", map[string]any{"service": "pushMessaging"}, nil)
	b.Call(p.session, "BackgroundService.setRecording", map[string]any{"service": "pushMessaging", "shouldRecord": true}, nil)
	b.Call(p.session, "Page.navigate", map[string]any{"url": p.origin + "/push/?key=abc"}, nil)
	b.Await("an active service worker", func(e testenv.Event) bool {
		var update struct {
			Versions []struct {
				RegistrationID string `json:"registrationId"`
				Status         string `json:"status"`
			} `json:"versions"`
		}
		if e.Method != "ServiceWorker.workerVersionUpdated" || json.Unmarshal(e.Params, &update) != nil {
			return false
		}
		for _, v := range update.Versions {
			if v.Status == "activated" {
				p.registration = v.RegistrationID
				return true
			}
		}
		return false
	})
	var state string
	p.poll(t, "the page to say what is on", 30*time.Second, func() bool {
		return b.Eval(p.session, "document.getElementById('state').textContent", &state) == nil && state == "Off."
	})
	return p
}

func (p *page) attach(target string) string {
	var attached struct {
		Session string `json:"sessionId"`
	}
	p.browser.Call("", "Target.attachToTarget", map[string]any{"targetId": target, "flatten": true}, &attached)
	return attached.Session
}

// pushWay returns what takes a message over the wire to where a browser has
// decrypted it.
func pushWay(t *testing.T) func(push.Message) string {
	t.Helper()
	service, err := pushservice.StartWebPush(pushservice.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	sender, err := webpush.New(webpush.Config{
		Subject: "mailto:ops@photos.example.com", KeyFile: filepath.Join(t.TempDir(), "vapid.pem"), PrivateOrigins: []string{service.URL()},
	}, webpush.Deps{Log: testenv.Logger(t), RootCAs: service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	sub, err := service.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	to := push.Target{Provider: push.WebPush, Endpoint: sub.Endpoint, P256dh: sub.P256dh, Auth: sub.Auth}
	return func(m push.Message) string {
		if out := sender.Send(t.Context(), to, m); out.Action != push.OK {
			t.Fatalf("Send = %+v, %v", out, service.Faults())
		}
		received := service.Received()
		return string(received[len(received)-1].Body)
	}
}

// deliver hands the browser a push, as its push service does, and waits until the
// worker is done with it. Not sooner: to ask for notifications while one is about to
// be shown makes Chromium forget it.
func (p *page) deliver(t *testing.T, data string) {
	t.Helper()
	p.pushes++
	p.browser.Call(p.session, "ServiceWorker.deliverPushMessage", map[string]any{
		"origin": p.origin, "registrationId": p.registration, "data": data,
	}, nil)
	completed := 0
	p.browser.Await("the worker to handle the push", func(e testenv.Event) bool {
		text := string(e.Params)
		if e.Method == "BackgroundService.backgroundServiceEventReceived" && strings.Contains(text, "Push event completed") {
			completed++
			if !strings.Contains(text, "Success") {
				t.Errorf("the worker failed: %s", text)
			}
		}
		return completed == p.pushes
	})
}

// await waits until exactly these notifications are shown.
func (p *page) await(t *testing.T, want []notification) {
	t.Helper()
	const script = `navigator.serviceWorker.getRegistration('/push/').then((r) => r.getNotifications()).then((all) =>
		all.map((n) => ({title: n.title, body: n.body, url: n.data.url || ''})))`
	var got []notification
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("shown are %+v, %v", got, err)
		}
	}()
	// Less than the 25 s after which Chromium takes a notification away by itself.
	p.poll(t, fmt.Sprintf("the notifications %v", want), 8*time.Second, func() bool {
		got = nil
		err = p.browser.Eval(p.session, script, &got)
		return err == nil && len(got) == len(want) && (len(want) == 0 || reflect.DeepEqual(got, want))
	})
}

// click clicks the notification that is shown. The protocol has no mouse for it, so
// the worker gets the event that a click makes.
func (p *page) click(t *testing.T) {
	t.Helper()
	var targets struct {
		Infos []struct {
			ID   string `json:"targetId"`
			Type string `json:"type"`
			URL  string `json:"url"`
		} `json:"targetInfos"`
	}
	p.browser.Call("", "Target.getTargets", nil, &targets)
	for _, info := range targets.Infos {
		if info.Type != "service_worker" || !strings.HasPrefix(info.URL, p.origin) {
			continue
		}
		err := p.browser.Eval(p.attach(info.ID), `self.registration.getNotifications().then(([n]) => {
			self.dispatchEvent(new NotificationEvent('notificationclick', {notification: n}));
		})`, nil)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no service worker among %+v", targets.Infos)
}

// poll asks the browser until something holds.
func (p *page) poll(t *testing.T, what string, limit time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			var state string
			_ = p.browser.Eval(p.session, "location.href + ' ' + document.body.innerText", &state)
			t.Fatalf("waited %v for %s: %s", limit, what, state)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(web.Handler())
	defer server.Close()
	for path, kind := range map[string]string{
		"/push/":          "text/html; charset=utf-8",
		"/push/sw.js":     "text/javascript; charset=utf-8",
		"/push/app.js":    "text/javascript; charset=utf-8",
		"/push/style.css": "text/css; charset=utf-8",
	} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != kind || len(body) == 0 || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s = %d, %s, %d bytes", path, resp.StatusCode, resp.Header.Get("Content-Type"), len(body))
		}
	}
}
