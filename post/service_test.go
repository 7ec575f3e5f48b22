package post_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestPostPhotoAnswersWithWhatTheLogHas(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	n := l.start(t)
	req := keyed("key 1")
	photo := mustPost(t, n, req)

	id, err := event.ParseID(photo.GetPostId())
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.Photo{
		PostId:   photo.GetPostId(),
		AuthorId: "ann",
		Media:    req.GetMedia(),
		Caption:  req.GetCaption(),
		// Who mentions themself is kept: what that means is the reader's to say.
		Mentions:   []string{"bob", "ann"},
		CreateTime: timestamppb.New(l.clock.Now()),
	}
	if diff := cmp.Diff(want, photo, protocmp.Transform()); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if !id.Time().Equal(l.clock.Now()) {
		t.Errorf("time of the post id = %s, want %s", id.Time(), l.clock.Now())
	}
	events := l.events(t)
	if len(events) != 1 {
		t.Fatalf("the log has %d events, want 1", len(events))
	}
	if events[0].ID == id {
		t.Error("the event has the id of the post")
	}
	wantEvent := event.Event{
		ID: events[0].ID, Time: l.clock.Now(), Source: "node-under-test", IdempotencyKey: "key 1",
		Data: &pb.PhotoPosted{Photo: want},
	}
	if diff := cmp.Diff(wantEvent, events[0], protocmp.Transform()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestDeletePhotoIsAFactOfTheActingUser(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	n := l.start(t)
	const id = "1570000000000000000" // never posted: no matter
	if _, err := n.DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "bob", PostId: id}); err != nil {
		t.Fatal(err)
	}
	events := l.events(t)
	if len(events) != 1 {
		t.Fatalf("the log has %d events, want 1", len(events))
	}
	want := event.Event{
		ID: events[0].ID, Time: l.clock.Now(), Source: "node-under-test",
		Data: &pb.PhotoDeleted{AuthorId: "bob", PostId: id},
	}
	if diff := cmp.Diff(want, events[0], protocmp.Transform()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func media(edit func(*pb.Media)) func(*pb.PostPhotoRequest) {
	return func(r *pb.PostPhotoRequest) {
		m := &pb.Media{Url: "https://cdn.example/2.jpg", Width: 1, Height: 1}
		edit(m)
		r.Media = append(r.Media, m)
	}
}

func manyMedia(n int) func(*pb.PostPhotoRequest) {
	return func(r *pb.PostPhotoRequest) {
		r.Media = nil
		for i := range n {
			media(func(m *pb.Media) { m.Url = fmt.Sprintf("https://cdn.example/%d.jpg", i) })(r)
		}
	}
}

func manyMentions(n int) func(*pb.PostPhotoRequest) {
	return func(r *pb.PostPhotoRequest) {
		r.Mentions = nil
		for i := range n {
			r.Mentions = append(r.Mentions, fmt.Sprintf("user%d", i))
		}
	}
}

const rune4 = "𝄞" // one character, four bytes: limits count characters

func TestBadCommandsNameTheFieldAndNeverReachTheLog(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	n := l.start(t)
	post := func(edit func(*pb.PostPhotoRequest)) func() error {
		return func() error {
			_, err := n.PostPhoto(t.Context(), command(edit))
			return err
		}
	}
	del := func(user, id string) func() error {
		return func() error {
			_, err := n.DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: user, PostId: id})
			return err
		}
	}
	for _, tt := range []struct {
		name  string
		call  func() error
		field string
	}{
		{"no user", post(func(r *pb.PostPhotoRequest) { r.UserId = "" }), "user_id"},
		{"user of 65 characters", post(func(r *pb.PostPhotoRequest) { r.UserId = strings.Repeat("a", 65) }), "user_id"},
		{"user with a space", post(func(r *pb.PostPhotoRequest) { r.UserId = "a b" }), "user_id"},
		{"user with a brace, which would move a Redis hash tag", post(func(r *pb.PostPhotoRequest) { r.UserId = "a}b" }), "user_id"},
		{"user with a line break at the end", post(func(r *pb.PostPhotoRequest) { r.UserId = "ann\n" }), "user_id"},
		{"no media", post(manyMedia(0)), "media"},
		{"21 media", post(manyMedia(21)), "media"},
		{"no url", post(media(func(m *pb.Media) { m.Url = "" })), "media[1].url"},
		{"url of another scheme", post(media(func(m *pb.Media) { m.Url = "javascript:alert(1)" })), "media[1].url"},
		{"relative url", post(media(func(m *pb.Media) { m.Url = "/1.jpg" })), "media[1].url"},
		{"url with a space", post(media(func(m *pb.Media) { m.Url = "https://cdn.example/a b" })), "media[1].url"},
		{"url of 2,049 characters", post(media(func(m *pb.Media) { m.Url = "https://x/" + strings.Repeat("a", 2039) })), "media[1].url"},
		{"no width", post(media(func(m *pb.Media) { m.Width = 0 })), "media[1].width"},
		{"negative width", post(media(func(m *pb.Media) { m.Width = -1 })), "media[1].width"},
		{"width of 65,536", post(media(func(m *pb.Media) { m.Width = 65536 })), "media[1].width"},
		{"no height", post(media(func(m *pb.Media) { m.Height = 0 })), "media[1].height"},
		{"height of 65,536", post(media(func(m *pb.Media) { m.Height = 65536 })), "media[1].height"},
		{"blurhash of 129 characters", post(media(func(m *pb.Media) { m.Blurhash = strings.Repeat("a", 129) })), "media[1].blurhash"},
		{"alt text of 1,001 characters", post(media(func(m *pb.Media) { m.AltText = strings.Repeat("a", 1001) })), "media[1].alt_text"},
		{"caption of 2,201 characters", post(func(r *pb.PostPhotoRequest) { r.Caption = strings.Repeat(rune4, 2201) }), "caption"},
		{"21 mentions", post(manyMentions(21)), "mentions"},
		{"a mention twice", post(func(r *pb.PostPhotoRequest) { r.Mentions = []string{"bob", "bob"} }), "mentions"},
		{"a mention of nobody", post(func(r *pb.PostPhotoRequest) { r.Mentions = []string{"bob", ""} }), "mentions[1]"},
		{"a mention with an at sign", post(func(r *pb.PostPhotoRequest) { r.Mentions = []string{"@bob"} }), "mentions[0]"},
		{"idempotency key of 129 characters", post(func(r *pb.PostPhotoRequest) { r.IdempotencyKey = strings.Repeat("a", 129) }), "idempotency_key"},
		{"delete: no user", del("", "1570000000000000000"), "user_id"},
		{"delete: bad user", del("a b", "1570000000000000000"), "user_id"},
		{"delete: no post", del("ann", ""), "post_id"},
		{"delete: 18 digits", del("ann", "157000000000000000"), "post_id"},
		{"delete: 20 digits", del("ann", "15700000000000000000"), "post_id"},
		{"delete: leading zero", del("ann", "0570000000000000000"), "post_id"},
		{"delete: letters", del("ann", "157000000000000000a"), "post_id"},
	} {
		// In sequence, as the log is looked at below.
		if err := tt.call(); !namesField(err, tt.field) {
			t.Errorf("%s: %v does not name the field %s", tt.name, err, tt.field)
		}
	}
	if events := l.events(t); len(events) != 0 {
		t.Errorf("the log has %v", events)
	}
}

func TestCommandsAtTheLimitsAreAccepted(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	n := l.start(t)
	var want []*pb.Photo
	for _, tt := range []struct {
		name string
		edit func(*pb.PostPhotoRequest)
	}{
		{"user of 64 characters of every kind", func(r *pb.PostPhotoRequest) { r.UserId = "aZ09_.:-" + strings.Repeat("a", 56) }},
		{"20 media", manyMedia(20)},
		{"largest picture", media(func(m *pb.Media) { m.Width, m.Height = 65535, 65535 })},
		{"plain http, port, query, fragment", media(func(m *pb.Media) { m.Url = "http://cdn.example:8080/a?b=c&d=%20#e" })},
		{"url of 2,048 characters", media(func(m *pb.Media) { m.Url = "https://x/" + strings.Repeat("a", 2038) })},
		{"no blurhash, no alt text", media(func(*pb.Media) {})},
		{"caption of 2,200 characters of four bytes", func(r *pb.PostPhotoRequest) { r.Caption = strings.Repeat(rune4, 2200) }},
		{"no caption, no mentions", func(r *pb.PostPhotoRequest) { r.Caption, r.Mentions = "", nil }},
		{"20 mentions", manyMentions(20)},
		{"idempotency key of 128 characters", func(r *pb.PostPhotoRequest) { r.IdempotencyKey = strings.Repeat(rune4, 128) }},
	} {
		resp, err := n.PostPhoto(t.Context(), command(tt.edit))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want = append(want, resp.GetPhoto())
	}
	if diff := cmp.Diff(want, l.posted(t), protocmp.Transform()); diff != "" {
		t.Errorf("the log has other photos than the answers (-answered +logged):\n%s", diff)
	}
}

func TestLogThatDoesNotAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	const secret = "dial tcp 10.0.0.7:9092: connection refused"
	l.fault = func(context.Context, func() error) error {
		return fault.Outage("publish to activity", errors.New(secret))
	}
	n := l.start(t)
	for name, call := range map[string]func() error{
		"the log did not accept the photo": func() error {
			_, err := n.PostPhoto(t.Context(), command())
			return err
		},
		"the log did not accept the deletion": func() error {
			_, err := n.DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "ann", PostId: "1570000000000000000"})
			return err
		},
	} {
		st := status.Convert(call())
		if st.Code() != codes.Unavailable || st.Message() != name {
			t.Errorf("status = %v, want %s %q", st, codes.Unavailable, name)
		}
		retry := []any{&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}}
		if diff := cmp.Diff(retry, st.Details(), protocmp.Transform()); diff != "" {
			t.Errorf("details (-want +got):\n%s", diff)
		}
	}
}

func TestPublishGoesOnWhenTheCallerHangsUp(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	publishing, published := make(chan struct{}), make(chan error, 1)
	hungUp := make(chan struct{})
	l.fault = func(ctx context.Context, publish func() error) error {
		close(publishing)
		<-hungUp
		err := errors.Join(ctx.Err(), publish())
		published <- err
		return err
	}
	n := l.start(t)
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		<-publishing
		hangUp()
	}()
	if _, err := n.PostPhoto(ctx, command()); status.Code(err) != codes.Canceled {
		t.Errorf("PostPhoto() = %v", err)
	}
	close(hungUp)
	if err := <-published; err != nil {
		t.Errorf("publish = %v", err)
	}
	if got := len(l.posted(t)); got != 1 {
		t.Errorf("the log has %d photos, want 1", got)
	}
}
