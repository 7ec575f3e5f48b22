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
	srv := serve(t, func(cfg *serveCmd) {
		cfg.Roles = []string{roleAPI, roleFeed}
	})

	conn, err := dial(srv.endpoints().API)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	post := func(caption string) {
		t.Helper()
		_, err := pb.NewPostServiceClient(conn).PostPhoto(t.Context(), &pb.PostPhotoRequest{
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

	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.caughtUp(limited); err != nil {
		t.Fatal(err)
	}
	feed, err := pb.NewFeedServiceClient(conn).GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "ann"})
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
	if _, err := os.Stat(endpointsFile(srv.cfg.Engines.DataDir)); err != nil {
		t.Error(err)
	}
}
