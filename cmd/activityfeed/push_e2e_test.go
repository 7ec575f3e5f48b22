package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/testing/protocmp"

	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	pb "activityfeed/proto/activityfeed/v1"
)

// The whole way, with the program itself: somebody registers a browser, is mentioned in
// a photo, and the push service has the notification, which only the browser can read.
// Then Redis loses everything and is made anew: the same inbox, the same device, and
// nothing is pushed again.
func TestPushThroughTheProgramAndRebuild(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	service, err := pushservice.StartWebPush(pushservice.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate()}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots)
	bin := filepath.Join(t.TempDir(), "activityfeed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir, api := t.TempDir(), freeAddr(t)
	srv := startProcess(t, bin, dir, api, "--roles", "api,feed,notify",
		"--push-webpush-subject", "mailto:ops@example.com", "--push-webpush-private-origins", service.URL())

	conn, err := grpc.NewClient(api, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	posts, notifications := pb.NewPostServiceClient(conn), pb.NewNotificationServiceClient(conn)

	browser, err := service.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	registered, err := notifications.RegisterDevice(t.Context(), &pb.RegisterDeviceRequest{UserId: "bob", Label: "a browser", Target: &pb.PushTarget{
		Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: browser.Endpoint, P256Dh: browser.P256dh, Auth: browser.Auth,
	}})
	if err != nil {
		t.Fatalf("RegisterDevice: %v\n%s", err, srv.log.String())
	}
	mention := func() string {
		t.Helper()
		posted, err := posts.PostPhoto(t.Context(), &pb.PostPhotoRequest{
			UserId: "ann", Caption: "with @bob", Mentions: []string{"bob"}, Media: []*pb.Media{{Url: "https://img.example/1.jpg", Width: 1, Height: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return posted.GetPhoto().GetPostId()
	}
	// shown returns the posts of which the browser was told, once there are that many.
	shown := func(n int) (opened []string) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for len(service.Received()) < n {
			select {
			case <-limit:
				t.Fatalf("%d pushes in 30 s, want %d; the service refused %q\n%s", len(service.Received()), n, service.Faults(), srv.log.String())
			case <-time.After(10 * time.Millisecond):
			}
		}
		for _, p := range service.Received() {
			var m struct {
				Title, URL string
				Data       map[string]string
			}
			if err := json.Unmarshal(p.Body, &m); err != nil || m.Title == "" {
				t.Fatalf("push %s, %v", p.Body, err)
			}
			if m.URL != "/?post="+m.Data["post_id"] {
				t.Errorf("a click opens %q, want the post %s", m.URL, m.Data["post_id"])
			}
			opened = append(opened, m.Data["post_id"])
		}
		return opened
	}
	type state struct {
		Inbox   *pb.ListNotificationsResponse
		Devices *pb.ListDevicesResponse
	}
	look := func() (s state) {
		t.Helper()
		var err error
		if s.Inbox, err = notifications.ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "bob"}); err != nil {
			t.Fatal(err)
		}
		if s.Devices, err = notifications.ListDevices(t.Context(), &pb.ListDevicesRequest{UserId: "bob"}); err != nil {
			t.Fatal(err)
		}
		return s
	}

	first := mention()
	if diff := cmp.Diff([]string{first}, shown(1)); diff != "" {
		t.Fatalf("posts of which the browser was told (-want +got):\n%s", diff)
	}
	before := look()
	if before.Inbox.GetUnreadCount() != 1 || len(before.Devices.GetDevices()) != 1 || before.Devices.GetDevices()[0].GetDeviceId() != registered.GetDeviceId() {
		t.Fatalf("before the loss: %v", before)
	}

	e, err := target{DataDir: dir}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	client := dialRedis(e.Redis, "", "")
	t.Cleanup(func() { _ = client.Close() })
	loseAllButMarkers(t, client)
	if lost := look(); len(lost.Inbox.GetNotifications()) != 0 || len(lost.Devices.GetDevices()) != 0 {
		t.Fatalf("after the loss: %v", lost)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"rebuild", "--data-dir", dir}, &out, &out); err != nil {
		t.Fatalf("rebuild: %v\n%s", err, out.String())
	}
	t.Logf("\n%s", out.String())
	after := look()
	// What came of the last push is no fact.
	if diff := cmp.Diff(before, after, protocmp.Transform(), protocmp.IgnoreFields(&pb.Device{}, "last_outcome")); diff != "" {
		t.Errorf("after the rebuild (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{first, mention()}, shown(2)); diff != "" {
		t.Errorf("posts of which the browser was told (-want +got):\n%s", diff)
	}
	srv.stop(t)
}
