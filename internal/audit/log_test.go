package audit

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/load"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// A real graph is loaded with churn, its facts go through a Kafka log with many
// partitions, a consumer group builds feeds from it, and the audit of these feeds
// finds nothing: the engines of load and audit with all but the server itself.
func TestLoadAndAuditOverKafka(t *testing.T) {
	t.Parallel()
	graph, err := load.ReadFile(testenv.SharedData(t, "socfb-Reed98.edges"))
	if err != nil {
		t.Fatal(err)
	}
	brokers, log := testenv.Kafka(t), testenv.Logger(t)
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(t.Context(), map[string]kafka.TopicConfig{event.Topic: {Partitions: 8}}); err != nil {
		t.Fatal(err)
	}
	ids, err := event.NewIDs(7, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	commands := &writeSide{publisher: publisher, ids: ids}
	served := newFakeLog(t)
	consumed := consume(t, brokers, served)
	result, err := load.Run(t.Context(), load.Config{
		Graph: graph, Posts: 500, Deletes: 0.05, Unfollows: 0.05, Blocks: 0.01, Mutes: 0.01, Interleave: true,
	}, load.Clients{Post: commands, Graph: commands}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	feed := newFakeFeed(t, served)
	report, err := Run(t.Context(), Config{}, Deps{
		Log: log, Lag: admin, Feed: pb.NewFeedServiceClient(feed.conn),
		Tail:   kafka.NewTail(kafka.TailConfig{Brokers: brokers, Topic: event.Topic}, log),
		Stored: func(context.Context) (map[string]int64, error) { return result.Accepted, nil },
	}, testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Clean() || report.Users != 962 || report.Records != result.Total() || report.Posts < 1000 {
		t.Errorf("Run() = %+v, want a clean report of 962 users and %d records", report, result.Total())
	}
	if lag, err := admin.Lag(t.Context(), "analytics", event.Topic); err != nil || lag != 0 {
		t.Errorf("counts were compared before the group had %d records: %v", lag, err)
	}
	consumed()
}

// consume runs the consumer groups of an audit: one builds what is served, one
// stands for the table. The returned function ends them.
func consume(t *testing.T, brokers []string, served *fakeLog) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var handlers sync.WaitGroup
	groups := []string{"feed", "analytics"}
	subscribers := make([]*kafka.Subscriber, len(groups))
	for i, group := range groups {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: brokers, Group: group, CommitInterval: 50 * time.Millisecond}, testenv.Logger(t), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		subscribers[i] = s
		messages, err := s.Subscribe(ctx, event.Topic)
		if err != nil {
			t.Fatal(err)
		}
		handlers.Go(func() {
			for msg := range messages {
				if e, err := event.Decode(msg); err != nil {
					t.Error(err)
				} else if group == "feed" {
					served.accept(e)
				}
				msg.Ack()
			}
		})
	}
	return func() {
		cancel()
		for _, s := range subscribers {
			s.Close()
		}
		handlers.Wait()
	}
}

// writeSide makes facts of commands, as post and graph do, without a wire.
type writeSide struct {
	pb.PostServiceClient
	pb.GraphServiceClient

	publisher *kafka.Publisher
	ids       *event.IDs
}

func (w *writeSide) publish(ctx context.Context, data proto.Message) error {
	id := w.ids.Next()
	msg, err := event.Encode(event.Event{ID: id, Time: id.Time(), Source: "test", Data: data})
	if err != nil {
		return err
	}
	return w.publisher.PublishContext(ctx, event.Topic, msg)
}

func (w *writeSide) PostPhoto(ctx context.Context, r *pb.PostPhotoRequest, _ ...grpc.CallOption) (*pb.PostPhotoResponse, error) {
	id := w.ids.Next()
	photo := &pb.Photo{PostId: id.String(), AuthorId: r.GetUserId(), Media: r.GetMedia(), Caption: r.GetCaption(), Mentions: r.GetMentions(), CreateTime: timestamppb.New(id.Time())}
	return &pb.PostPhotoResponse{Photo: photo}, w.publish(ctx, &pb.PhotoPosted{Photo: photo})
}

func (w *writeSide) DeletePhoto(ctx context.Context, r *pb.DeletePhotoRequest, _ ...grpc.CallOption) (*pb.DeletePhotoResponse, error) {
	return &pb.DeletePhotoResponse{}, w.publish(ctx, &pb.PhotoDeleted{AuthorId: r.GetUserId(), PostId: r.GetPostId()})
}

func (w *writeSide) Follow(ctx context.Context, r *pb.FollowRequest, _ ...grpc.CallOption) (*pb.FollowResponse, error) {
	return &pb.FollowResponse{}, w.publish(ctx, follow(r.GetUserId(), r.GetTargetId()))
}

func (w *writeSide) Unfollow(ctx context.Context, r *pb.UnfollowRequest, _ ...grpc.CallOption) (*pb.UnfollowResponse, error) {
	return &pb.UnfollowResponse{}, w.publish(ctx, unfollow(r.GetUserId(), r.GetTargetId()))
}

func (w *writeSide) Block(ctx context.Context, r *pb.BlockRequest, _ ...grpc.CallOption) (*pb.BlockResponse, error) {
	return &pb.BlockResponse{}, w.publish(ctx, block(r.GetUserId(), r.GetTargetId()))
}

func (w *writeSide) Unblock(ctx context.Context, r *pb.UnblockRequest, _ ...grpc.CallOption) (*pb.UnblockResponse, error) {
	return &pb.UnblockResponse{}, w.publish(ctx, unblock(r.GetUserId(), r.GetTargetId()))
}

func (w *writeSide) Mute(ctx context.Context, r *pb.MuteRequest, _ ...grpc.CallOption) (*pb.MuteResponse, error) {
	return &pb.MuteResponse{}, w.publish(ctx, mute(r.GetUserId(), r.GetTargetId()))
}

func (w *writeSide) Unmute(ctx context.Context, r *pb.UnmuteRequest, _ ...grpc.CallOption) (*pb.UnmuteResponse, error) {
	return &pb.UnmuteResponse{}, w.publish(ctx, unmute(r.GetUserId(), r.GetTargetId()))
}

// testWriter shows a report in the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
