package event_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	someID   event.ID = 1_571_000_000_000_000_000
	somePost          = "1570000000000000000"
)

var someTime = time.Date(2026, 11, 22, 10, 20, 30, 456e6, time.UTC)

func somePhoto() *pb.Photo {
	return &pb.Photo{
		PostId:     somePost,
		AuthorId:   "ann",
		Media:      []*pb.Media{{Url: "https://cdn.example/1.jpg", Width: 640, Height: 480, Blurhash: "LEHV6n", AltText: "a dune"}},
		Caption:    "wind, sand & ☀",
		Mentions:   []string{"bob", "ann"},
		CreateTime: timestamppb.New(someTime),
	}
}

// facts has every fact with the key that event.proto promises.
func facts() map[string]struct {
	data proto.Message
	key  string
} {
	type fact = struct {
		data proto.Message
		key  string
	}
	return map[string]fact{
		"PhotoPosted":    {&pb.PhotoPosted{Photo: somePhoto()}, "ann"},
		"PhotoDeleted":   {&pb.PhotoDeleted{AuthorId: "ann", PostId: somePost}, "ann"},
		"UserFollowed":   {&pb.UserFollowed{FollowerId: "ann", FolloweeId: "bob", NotificationLevel: pb.NotificationLevel_NOTIFICATION_LEVEL_ALL}, "bob"},
		"UserUnfollowed": {&pb.UserUnfollowed{FollowerId: "ann", FolloweeId: "bob"}, "bob"},
		"UserBlocked":    {&pb.UserBlocked{ActorId: "ann", TargetId: "bob"}, "ann"},
		"UserUnblocked":  {&pb.UserUnblocked{ActorId: "ann", TargetId: "bob"}, "ann"},
		"UserMuted":      {&pb.UserMuted{ActorId: "ann", TargetId: "bob"}, "ann"},
		"UserUnmuted":    {&pb.UserUnmuted{ActorId: "ann", TargetId: "bob"}, "ann"},
		"UserSawFeed":    {&pb.UserSawFeed{UserId: "ann", PostId: somePost}, "ann"},

		"DeviceRegistered": {&pb.DeviceRegistered{
			UserId: "ann", DeviceId: "0123456789abcdefABCDEF", RegisterTime: timestamppb.New(someTime),
			Target: &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: "t"},
		}, "device/0123456789abcdefABCDEF"},
		"DeviceRemoved":  {&pb.DeviceRemoved{UserId: "ann", DeviceId: "0123456789abcdefABCDEF"}, "device/0123456789abcdefABCDEF"},
		"PreferencesSet": {&pb.PreferencesSet{UserId: "ann", Preferences: &pb.NotificationPreferences{}}, "preferences/ann"},
		"InboxMarked":    {&pb.InboxMarked{UserId: "ann", ReadUpTo: somePost}, "inbox/ann"},
	}
}

func TestEveryFactOfTheContractSurvivesTheLog(t *testing.T) {
	t.Parallel()
	var declared []string
	for _, file := range []protoreflect.FileDescriptor{pb.File_activityfeed_v1_event_proto, pb.File_activityfeed_v1_account_proto} {
		for i := range file.Messages().Len() {
			declared = append(declared, string(file.Messages().Get(i).Name()))
		}
	}
	all := facts()
	if len(declared) != len(all) {
		t.Fatalf("event.proto and account.proto have %d facts, this test %d", len(declared), len(all))
	}
	for _, name := range declared {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fact, ok := all[name]
			if !ok {
				t.Fatalf("no example of %s", name)
			}
			want := event.Event{ID: someID, Time: someTime, Source: "node-1", IdempotencyKey: "schlüssel 7", Data: fact.data}
			msg, err := event.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			metadata := message.Metadata{
				record.KeyMetadata:  fact.key,
				"ce_type":           "activityfeed.v1." + name,
				"ce_source":         "node-1",
				"ce_time":           "2026-11-22T10:20:30.456Z",
				"ce_specversion":    "1.0",
				"ce_idempotencykey": "schlüssel 7",
				"content-type":      "application/protobuf",
			}
			if diff := cmp.Diff(metadata, msg.Metadata); diff != "" {
				t.Errorf("Encode(%s) metadata (-want +got):\n%s", name, diff)
			}
			if msg.UUID != someID.String() {
				t.Errorf("Encode(%s) UUID = %q, want %q", name, msg.UUID, someID)
			}
			got, err := event.Decode(record.FromMessage(msg).Message())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("Decode(Encode(e)) (-want +got):\n%s", diff)
			}
			if got.Type() != name {
				t.Errorf("Type() = %q, want %q", got.Type(), name)
			}
			if got := event.IdempotencyKeyOf(msg); got != "schlüssel 7" {
				t.Errorf("IdempotencyKeyOf() = %q", got)
			}
		})
	}
}

func TestEncodeRefusesWhatAConsumerWouldRefuse(t *testing.T) {
	t.Parallel()
	noMedia := somePhoto()
	noMedia.Media = nil
	badURL := somePhoto()
	badURL.Media = append(badURL.Media, &pb.Media{Url: "ftp://x/y", Width: 1, Height: 1})
	for _, tt := range []struct {
		name string
		e    event.Event
		kind fault.Kind
		// field is the path in the fact, for kind InvalidArgument.
		field string
	}{
		{"no id", event.Event{Time: someTime, Data: &pb.PhotoDeleted{AuthorId: "ann", PostId: somePost}}, fault.Internal, ""},
		{"no data", event.Event{ID: someID, Time: someTime}, fault.Internal, ""},
		{"no fact", event.Event{ID: someID, Time: someTime, Data: somePhoto()}, fault.Internal, ""},
		{"nil fact", event.Event{ID: someID, Time: someTime, Data: (*pb.PhotoPosted)(nil)}, fault.InvalidArgument, "photo"},
		{"missing message", event.Event{ID: someID, Time: someTime, Data: &pb.PhotoPosted{}}, fault.InvalidArgument, "photo"},
		{"missing list", event.Event{ID: someID, Time: someTime, Data: &pb.PhotoPosted{Photo: noMedia}}, fault.InvalidArgument, "photo.media"},
		{"nested field", event.Event{ID: someID, Time: someTime, Data: &pb.PhotoPosted{Photo: badURL}}, fault.InvalidArgument, "photo.media[1].url"},
		{"user id", event.Event{ID: someID, Time: someTime, Data: &pb.UserMuted{ActorId: "ann", TargetId: "b ob"}}, fault.InvalidArgument, "target_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg, err := event.Encode(tt.e)
			if err == nil {
				t.Fatalf("Encode(%v) = %v", tt.e, msg)
			}
			if got := fault.KindOf(err); got != tt.kind {
				t.Errorf("KindOf(%v) = %d, want %d", err, got, tt.kind)
			}
			if tt.kind == fault.InvalidArgument {
				if got := fault.Of(err).Field; got != tt.field {
					t.Errorf("field of %v = %q, want %q", err, got, tt.field)
				}
			}
		})
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	valid := func(t *testing.T) *message.Message {
		msg, err := event.Encode(event.Event{ID: someID, Time: someTime, Source: "node-1", Data: &pb.PhotoPosted{Photo: somePhoto()}})
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	for _, tt := range []struct {
		name string
		edit func(msg *message.Message)
		// reason is the poison's; empty for ErrUnknownType.
		reason string
	}{
		{"no type", func(m *message.Message) { delete(m.Metadata, "ce_type") }, event.ReasonUndecodable},
		{"no headers at all", func(m *message.Message) { m.Metadata = nil }, event.ReasonUndecodable},
		{"type of a newer version", func(m *message.Message) { m.Metadata["ce_type"] = "activityfeed.v1.PhotoLiked" }, ""},
		{"somebody else's type", func(m *message.Message) { m.Metadata["ce_type"] = "com.example.PhotoPosted" }, ""},
		{"prefix alone", func(m *message.Message) { m.Metadata["ce_type"] = "activityfeed.v1." }, ""},
		{"no id", func(m *message.Message) { m.UUID = "" }, event.ReasonInvalid},
		{"id of 18 digits", func(m *message.Message) { m.UUID = m.UUID[1:] }, event.ReasonInvalid},
		{"no time", func(m *message.Message) { delete(m.Metadata, "ce_time") }, event.ReasonInvalid},
		{"time of another form", func(m *message.Message) { m.Metadata["ce_time"] = "yesterday" }, event.ReasonInvalid},
		{"torn payload", func(m *message.Message) { m.Payload = m.Payload[:len(m.Payload)-1] }, event.ReasonUndecodable},
		{"not protobuf", func(m *message.Message) { m.Payload = []byte("{}") }, event.ReasonUndecodable},
		{"not UTF-8", func(m *message.Message) {
			m.Payload = []byte(strings.Replace(string(m.Payload), "wind", "\xff\xfe\xfd\xfc", 1))
		}, event.ReasonUndecodable},
		{"empty payload", func(m *message.Message) { m.Payload = nil }, event.ReasonInvalid},
		{"payload of another fact", func(m *message.Message) { m.Metadata["ce_type"] = "activityfeed.v1.UserMuted" }, event.ReasonUndecodable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg := valid(t)
			tt.edit(msg)
			e, err := event.Decode(msg)
			if err == nil {
				t.Fatalf("Decode() = %v", e)
			}
			if tt.reason == "" {
				if !errors.Is(err, event.ErrUnknownType) || fault.KindOf(err) != fault.Internal {
					t.Errorf("Decode() = %v, want ErrUnknownType", err)
				}
				return
			}
			if f := fault.Of(err); f == nil || f.Kind != fault.Permanent || f.Reason != tt.reason {
				t.Errorf("Decode() = %v, want poison with reason %q", err, tt.reason)
			}
		})
	}
}

// A newer producer may have added fields: they are no fault, and are not lost.
func TestDecodeKeepsUnknownFields(t *testing.T) {
	t.Parallel()
	msg, err := event.Encode(event.Event{ID: someID, Time: someTime, Data: &pb.PhotoDeleted{AuthorId: "ann", PostId: somePost}})
	if err != nil {
		t.Fatal(err)
	}
	msg.Payload = append(msg.Payload, 0xfa, 0x7f, 0x01, 'x') // field 2047, bytes
	e, err := event.Decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(msg.Payload, again.Payload) {
		t.Errorf("payload = %x, want %x", again.Payload, msg.Payload)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	got := []string{event.Topic, event.PoisonTopic("feed"), event.RetryTopic("feed")}
	if diff := cmp.Diff([]string{"activity", "feed.poison", "feed.retry"}, got); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
}

// Whatever is in the log: Decode gives an event that can be written again, an
// unknown type or a poison, and never panics.
func FuzzDecode(f *testing.F) {
	for name, fact := range facts() {
		payload, err := proto.Marshal(fact.data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(someID.String(), "activityfeed.v1."+name, "2026-11-22T10:20:30.456Z", "key", payload)
	}
	f.Add("", "", "", "", []byte(nil))
	f.Add("7", "activityfeed.v1.PhotoLiked", "2026-11-22T10:20:30+01:00", "", []byte{0xff})
	f.Fuzz(func(t *testing.T, id, typ, at, key string, payload []byte) {
		msg := message.NewMessage(id, payload)
		msg.Metadata = message.Metadata{"ce_type": typ, "ce_time": at, "ce_idempotencykey": key}
		e, err := event.Decode(msg)
		if err != nil {
			if fault.KindOf(err) != fault.Permanent && !errors.Is(err, event.ErrUnknownType) {
				t.Errorf("Decode() = %v: neither poison nor unknown", err)
			}
			return
		}
		encoded, err := event.Encode(e)
		if err != nil {
			t.Fatalf("Encode(Decode(m)): %v", err)
		}
		again, err := event.Decode(encoded)
		if err != nil {
			t.Fatalf("Decode(Encode(Decode(m))): %v", err)
		}
		if diff := cmp.Diff(e, again, protocmp.Transform()); diff != "" {
			t.Errorf("Decode(Encode(e)) (-want +got):\n%s", diff)
		}
	})
}
