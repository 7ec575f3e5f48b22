package analytics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestRowOf(t *testing.T) {
	t.Parallel()
	const post = "5000000000000000001"
	for _, tt := range []struct {
		data proto.Message
		want row
	}{
		{
			&pb.PhotoPosted{Photo: &pb.Photo{
				PostId: post, AuthorId: "ann", Media: []*pb.Media{{}, {}}, Caption: "Grüße 🌊", Mentions: []string{"bob", "cy"},
			}},
			row{author: "ann", actor: "ann", post: post, media: 2, captionLength: 7, mentions: []string{"bob", "cy"}, whole: true},
		},
		{&pb.PhotoDeleted{AuthorId: "ann", PostId: post}, row{author: "ann", actor: "ann", post: post}},
		{
			&pb.UserFollowed{FollowerId: "bob", FolloweeId: "ann", NotificationLevel: pb.NotificationLevel_NOTIFICATION_LEVEL_ALL},
			row{author: "ann", actor: "bob", target: "ann", level: "all"},
		},
		{&pb.UserFollowed{FollowerId: "bob", FolloweeId: "ann"}, row{author: "ann", actor: "bob", target: "ann", level: "default"}},
		{&pb.UserUnfollowed{FollowerId: "bob", FolloweeId: "ann"}, row{author: "ann", actor: "bob", target: "ann"}},
		{&pb.UserBlocked{ActorId: "bob", TargetId: "ann"}, row{author: "bob", actor: "bob", target: "ann"}},
		{&pb.UserUnblocked{ActorId: "bob", TargetId: "ann"}, row{author: "bob", actor: "bob", target: "ann"}},
		{&pb.UserMuted{ActorId: "bob", TargetId: "ann"}, row{author: "bob", actor: "bob", target: "ann"}},
		{&pb.UserUnmuted{ActorId: "bob", TargetId: "ann"}, row{author: "bob", actor: "bob", target: "ann"}},
		{&pb.UserSawFeed{UserId: "ann", PostId: post}, row{author: "ann", actor: "ann", post: post}},
	} {
		t.Run(string(tt.data.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			t.Parallel()
			got, err := rowOf(event.Event{Data: tt.data})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(row{})); diff != "" {
				t.Errorf("rowOf (-want +got):\n%s", diff)
			}
			back, err := eventOf(storedOf(t, event.Event{ID: 7, Time: day, Source: "s", Data: tt.data}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(event.Event{ID: 7, Time: day, Source: "s", Data: tt.data}, back, protocmp.Transform()); diff != "" {
				t.Errorf("eventOf (-want +got):\n%s", diff)
			}
		})
	}
}

// storedOf is how an event is read back from the table.
func storedOf(t *testing.T, e event.Event) stored {
	t.Helper()
	row, err := rowOf(e)
	if err != nil {
		t.Fatal(err)
	}
	post, err := number("post_id", row.post)
	if err != nil {
		t.Fatal(err)
	}
	s := stored{
		id: uint64(e.ID), kind: e.Type(), time: e.Time, author: row.author, actor: row.actor, target: row.target,
		post: post, level: row.level, source: e.Source,
	}
	if row.whole {
		if s.original, err = proto.Marshal(e.Data); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestEventOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		row  stored
		want error
	}{
		{"a post from before posts were kept", stored{kind: "PhotoPosted"}, errNoOriginal},
		{"of a newer version", stored{kind: "CommentWritten"}, event.ErrUnknownType},
	} {
		if _, err := eventOf(tt.row); !errors.Is(err, tt.want) {
			t.Errorf("%s: eventOf = %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Whoever adds a fact to event.proto gives it a row here, and a way back.
func TestEveryEventHasARow(t *testing.T) {
	t.Parallel()
	messages := pb.File_activityfeed_v1_event_proto.Messages()
	for i := range messages.Len() {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(messages.Get(i).FullName())
		if err != nil {
			t.Fatal(err)
		}
		data := kind.New().Interface()
		if _, err := rowOf(event.Event{Data: data}); err != nil {
			t.Error(err)
		}
		if _, err := eventOf(stored{kind: event.Event{Data: data}.Type(), original: []byte{10, 0}}); err != nil {
			t.Error(err)
		}
	}
}

func TestAddRefusesWhatIsNoRow(t *testing.T) {
	t.Parallel()
	badPost := photo(1, "ann")
	badPost.Data.(*pb.PhotoPosted).GetPhoto().PostId = "99999999999999999999"
	early, late := photo(1, "ann"), photo(1, "ann")
	early.Time = time.Date(2014, 12, 31, 23, 59, 59, 0, time.UTC)
	late.Time = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		e    event.Event
		want string
	}{
		{"before all ids", early, "2014-12-31"},
		{"after all ids", late, "2300-01-01"},
		{"post id too large", badPost, "post_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &rows{}
			err := r.add(tt.e, record.Framed{}, record.Origin{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("add = %v, want an error that names %s", err, tt.want)
			}
			if r.len() != 0 || len(r.frames) != 0 {
				t.Errorf("add left %d rows behind its error", r.len())
			}
		})
	}
}

func TestReleaseLeavesNothing(t *testing.T) {
	t.Parallel()
	r := &rows{}
	if err := r.add(photo(1, "ann"), record.Framed{Frame: record.Frame("x")}, record.Origin{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	kept := r.frames[:1]
	r.release()
	if kept[0] != nil {
		t.Error("release keeps the payload alive")
	}
}
