package notify

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestRowSurvivesItsStoredForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Int64Range(1, 1<<63-1)
		want := row{
			id:    event.ID(id.Draw(t, "id")),
			kind:  pb.NotificationType(rapid.Int32Range(1, 3).Draw(t, "kind")),
			actor: rapid.StringMatching(`[A-Za-z0-9_.:-]{1,64}`).Draw(t, "actor"),
		}
		if want.kind != pb.NotificationType_NOTIFICATION_TYPE_FOLLOW {
			want.post = event.ID(id.Draw(t, "post"))
		}
		got, err := decodeRow(want.encode())
		if err != nil || got != want {
			t.Errorf("decodeRow(encode(%+v)) = %+v, %v", want, got, err)
		}
	})
}

func TestRowIsSmall(t *testing.T) {
	t.Parallel()
	r := row{id: 1_500_000_000_000_000_000, kind: mention, actor: "author01", post: 1_500_000_000_000_000_001}
	if got := len(r.encode()); got != 19 {
		t.Errorf("a usual row has %d bytes, want 8 for the id, 2, 1 for the post and 8 for the actor", got)
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add((row{id: 1 << 60, kind: mention, actor: "ann", post: 1 << 61}).encode())
	f.Add("12345678\x03\x0212345678\x01a")
	f.Add("12345678\x02\x01")
	f.Fuzz(func(t *testing.T, stored string) {
		r, err := decodeRow(stored)
		if err == nil && (r.actor == "" || r.message().GetType() == 0) {
			t.Errorf("decodeRow(%q) = %+v, want an error", stored, r)
		}
	})
}

func TestRowMessage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, int(7*time.Millisecond), time.UTC)
	id := event.FirstID(at) + 5
	for _, tt := range []struct {
		name string
		row  row
		want *pb.Notification
	}{
		{"mention", row{id: id, kind: mention, actor: "ann", post: id - 1, read: true}, &pb.Notification{
			NotificationId: id.String(), Type: mention, ActorId: "ann", PostId: (id - 1).String(),
			CreateTime: timestamppb.New(at), Read: true,
		}},
		{"follow", row{id: id, kind: pb.NotificationType_NOTIFICATION_TYPE_FOLLOW, actor: "bob"}, &pb.Notification{
			NotificationId: id.String(), Type: pb.NotificationType_NOTIFICATION_TYPE_FOLLOW, ActorId: "bob",
			CreateTime: timestamppb.New(at),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.row.message(), protocmp.Transform()); diff != "" {
				t.Errorf("message() (-want +got):\n%s", diff)
			}
		})
	}
}
