package main

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestAskedUsers(t *testing.T) {
	t.Parallel()
	all := []string{"ann", "ben", "cid", "dan", "eve", "fay", "gus", "nosuch"}
	asked := newAskedUsers(all)
	for _, e := range []event.Event{
		{Data: &pb.UserFollowed{FollowerId: "ann", FolloweeId: "ben"}},
		{Data: &pb.UserBlocked{ActorId: "cid", TargetId: "zoe"}},
		{Data: &pb.PhotoPosted{Photo: &pb.Photo{AuthorId: "dan", Mentions: []string{"eve"}}}},
		{Data: &pb.PhotoDeleted{AuthorId: "fay"}},
		{Data: &pb.PreferencesSet{UserId: "gus"}},
	} {
		asked.note(e)
	}
	const want = "--users: the log has nothing of nosuch"
	if err := asked.unknown(); err == nil || err.Error() != want {
		t.Errorf("unknown of %v = %v, want %q", all, err, want)
	}
	if err := newAskedUsers(nil).unknown(); err != nil {
		t.Errorf("unknown of everybody = %v", err)
	}
}

// notice calls seen when a text was written.
type notice struct {
	text string
	seen func()

	mu  sync.Mutex
	all strings.Builder
}

func (n *notice) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all.Write(p)
	if strings.Contains(n.all.String(), n.text) {
		n.seen()
	}
	return len(p), nil
}

// A rebuild that waits for Redis says so.
func TestRebuildWithoutRedis(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 1}, event.AccountTopic: {Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	now := time.Now()
	msg, err := event.Encode(event.Event{ID: event.FirstID(now), Time: now, Data: &pb.UserFollowed{FollowerId: "ann", FolloweeId: "ben"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.Publish(event.Topic, msg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	progress := &notice{text: "Redis does not answer: waiting for it", seen: cancel}
	err = run(ctx, []string{
		"rebuild", "--data-dir", t.TempDir(), "--api", "none:1", "--kafka", brokers[0],
		"--redis", freeAddr(t), "--progress-interval", "10ms",
	}, io.Discard, progress)
	if err == nil || !strings.Contains(progress.all.String(), progress.text) {
		t.Errorf("rebuild without Redis = %v, and says\n%s", err, progress.all.String())
	}
}
