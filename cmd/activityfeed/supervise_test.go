package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// Redis is killed under a running server: commands are accepted meanwhile, and
// the feeds have them when the supervisor has started Redis again.
func TestServerSurvivesItsRedis(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	cfg, err := defaultServeConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Roles = []string{roleAPI, roleFeed}
	srv, err := newServer(t.Context(), cfg, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx) }()

	conn, err := dial(srv.endpoints().API)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	post := func(caption string) {
		t.Helper()
		_, err := pb.NewPostServiceClient(conn).PostPhoto(ctx, &pb.PostPhotoRequest{
			UserId: "ann", Caption: caption, Media: []*pb.Media{{Url: "https://photos.example/1.jpg", Width: 1, Height: 1}},
		})
		if err != nil {
			t.Fatalf("post %q: %v", caption, err)
		}
	}
	post("before")
	redis := srv.engines.children[0].current.(*embedded.Redis)
	if err := syscall.Kill(redis.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	post("while Redis is away")

	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := srv.caughtUp(limited); err != nil {
		t.Fatal(err)
	}
	feed, err := pb.NewFeedServiceClient(conn).GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	var captions []string
	for _, photo := range feed.GetPhotos() {
		captions = append(captions, photo.GetCaption())
	}
	if got, want := strings.Join(captions, ", "), "while Redis is away, before"; got != want {
		t.Errorf("feed = %q, want %q", got, want)
	}
	response, err := http.Get("http://" + srv.endpoints().Ops + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("/readyz = %s, want 200", response.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
	if _, err := os.Stat(endpointsFile(cfg.Engines.DataDir)); err != nil {
		t.Error(err)
	}
}
