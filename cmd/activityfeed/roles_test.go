package main

import (
	"context"
	"testing"
	"time"

	"activityfeed/analytics"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// Four processes, one a role, share a log, a Redis and a ClickHouse by address: a
// photo that the first accepts is in the feed, the table and the inbox.
func TestRolesApart(t *testing.T) {
	brokers, redis := testenv.Kafka(t), testenv.Redis(t)
	clickhouse, database := testenv.ClickHouse(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	servers := make(map[string]*server)
	ended := make(chan error)
	for _, role := range []string{roleAPI, roleFeed, roleAnalytics, roleNotify} {
		cfg, err := defaultServeConfig(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Roles = []string{role}
		cfg.Engines.Kafka, cfg.Engines.Redis = brokers, []string{redis}
		cfg.Engines.Clickhouse, cfg.Engines.ClickhouseDatabase = []string{clickhouse}, database
		srv, err := newServer(ctx, cfg, testenv.Logger(t))
		if err != nil {
			t.Fatalf("role %s: %v", role, err)
		}
		servers[role] = srv
		go func() { ended <- srv.run(ctx) }()
	}
	defer func() {
		stop()
		for range servers {
			if err := <-ended; err != nil {
				t.Errorf("run = %v", err)
			}
		}
	}()

	conn, err := dial(servers[roleAPI].endpoints().API)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pb.NewGraphServiceClient(conn).Follow(ctx, &pb.FollowRequest{UserId: "ben", TargetId: "ann"}); err != nil {
		t.Fatal(err)
	}
	// A stream on the process that serves; its facts come from the others.
	live, err := pb.NewFeedServiceClient(conn).WatchFeed(ctx, &pb.WatchFeedRequest{UserId: "ben"})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := live.Recv(); err != nil || !first.GetCaughtUp() {
		t.Fatalf("Recv = %v, %v", first, err)
	}
	posted, err := pb.NewPostServiceClient(conn).PostPhoto(ctx, &pb.PostPhotoRequest{
		UserId: "ann", Caption: "hello", Media: []*pb.Media{{Url: "https://photos.example/1.jpg", Width: 1, Height: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := posted.GetPhoto().GetPostId()

	if news, err := live.Recv(); err != nil || news.GetPhoto().GetPostId() != want {
		t.Errorf("stream of ben = %v, %v, want post %s", news, err, want)
	}
	if err := waitForConsumers(ctx, servers[roleAPI].admin, roleFeed, roleAnalytics, roleNotify); err != nil {
		t.Fatal(err)
	}
	feed, err := pb.NewFeedServiceClient(conn).GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: "ben"})
	if err != nil {
		t.Fatal(err)
	}
	if got := feed.GetPhotos(); len(got) != 1 || got[0].GetPostId() != want {
		t.Errorf("feed of ben = %v, want post %s", got, want)
	}
	inbox, err := pb.NewNotificationServiceClient(conn).ListNotifications(ctx, &pb.ListNotificationsRequest{UserId: "ben"})
	if err != nil {
		t.Fatal(err)
	}
	if got := inbox.GetNotifications(); len(got) != 1 || got[0].GetPostId() != want {
		t.Errorf("inbox of ben = %v, want post %s", got, want)
	}
	reader, err := analytics.OpenReader(analytics.Config{Addr: clickhouse, Database: database})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	counts, err := reader.CountByType(ctx)
	if err != nil || counts["PhotoPosted"] != 1 || counts["UserFollowed"] != 1 {
		t.Errorf("ClickHouse counts %v, %v, want one post and one follow", counts, err)
	}
}
