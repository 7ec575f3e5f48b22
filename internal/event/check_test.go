package event

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "activityfeed/proto/activityfeed/v1"
)

// examples are facts around the borders of the rules.
func examples() []proto.Message {
	photo := func(change func(*pb.Photo)) proto.Message {
		p := &pb.Photo{
			PostId: "1570000000000000000", AuthorId: "ann", Caption: "wind",
			Media:      []*pb.Media{{Url: "https://cdn.example.org/1.jpg?w=4", Width: 4, Height: 3}},
			CreateTime: timestamppb.Now(),
		}
		change(p)
		return &pb.PhotoPosted{Photo: p}
	}
	all := []proto.Message{
		&pb.PhotoPosted{},
		&pb.PhotoDeleted{AuthorId: "ann", PostId: "1570000000000000000"},
		&pb.PhotoDeleted{AuthorId: "ann", PostId: "0570000000000000000"},
		&pb.UserFollowed{FollowerId: "ann", FolloweeId: "bob", NotificationLevel: 2},
		&pb.UserFollowed{FollowerId: "ann", FolloweeId: "bob", NotificationLevel: 99},
		&pb.UserFollowed{FollowerId: "ann", FolloweeId: "bob", NotificationLevel: -1},
		&pb.UserUnfollowed{FollowerId: "ann", FolloweeId: "bob"},
		&pb.UserUnfollowed{FollowerId: strings.Repeat("a", 65), FolloweeId: "bob"},
		&pb.UserBlocked{ActorId: "a b", TargetId: "bob"},
		&pb.UserUnblocked{ActorId: "", TargetId: "bob"},
		&pb.UserMuted{ActorId: "ann\n", TargetId: "bob"},
		&pb.UserUnmuted{ActorId: "ann", TargetId: "bob"},
		&pb.UserSawFeed{UserId: "ann", PostId: "1570000000000000000"},
		&pb.UserSawFeed{UserId: "ann", PostId: "1"},
	}
	for _, change := range []func(*pb.Photo){
		func(*pb.Photo) {},
		func(p *pb.Photo) { p.PostId = "157000000000000000" },
		func(p *pb.Photo) { p.Media = nil },
		func(p *pb.Photo) { p.Media = make([]*pb.Media, 21) },
		func(p *pb.Photo) { p.Media[0].Width = 65536 },
		func(p *pb.Photo) { p.Media[0].Height = 0 },
		func(p *pb.Photo) { p.Media[0].Url = "ftp://example.org/1" },
		func(p *pb.Photo) { p.Media[0].Url = "https:///1" },
		func(p *pb.Photo) { p.Media[0].Url = "https://a/%zz" },
		func(p *pb.Photo) { p.Media[0].Url = "https://a:99999999/b" },
		func(p *pb.Photo) { p.Media[0].Url = "https://" + strings.Repeat("a", 2041) },
		func(p *pb.Photo) { p.Media[0].Blurhash = strings.Repeat("a", 129) },
		func(p *pb.Photo) { p.Media[0].AltText = strings.Repeat("a", 1001) },
		func(p *pb.Photo) { p.Caption = strings.Repeat("ü", 2200) },
		func(p *pb.Photo) { p.Caption = strings.Repeat("ü", 2201) },
		func(p *pb.Photo) { p.Mentions = []string{"bob", "bob"} },
		func(p *pb.Photo) { p.Mentions = []string{"bob", "cy d"} },
		func(p *pb.Photo) { p.CreateTime = nil },
	} {
		all = append(all, photo(change))
	}
	return all
}

// What the quick look passes, the rules of event.proto pass. The other way round
// it need not be, except for ordinary facts: else nothing would be quick.
func FuzzPlainIsValid(f *testing.F) {
	kinds := []func() proto.Message{
		func() proto.Message { return new(pb.PhotoPosted) }, func() proto.Message { return new(pb.PhotoDeleted) },
		func() proto.Message { return new(pb.UserFollowed) }, func() proto.Message { return new(pb.UserUnfollowed) },
		func() proto.Message { return new(pb.UserBlocked) }, func() proto.Message { return new(pb.UserUnblocked) },
		func() proto.Message { return new(pb.UserMuted) }, func() proto.Message { return new(pb.UserUnmuted) },
		func() proto.Message { return new(pb.UserSawFeed) },
	}
	for _, data := range examples() {
		bytes, err := proto.Marshal(data)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range kinds {
			f.Add(uint8(kind), bytes)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, bytes []byte) {
		data := kinds[int(kind)%len(kinds)]()
		if proto.Unmarshal(bytes, data) != nil {
			return
		}
		if err := protovalidate.Validate(data); plain(data) && err != nil {
			t.Errorf("plain(%v) = true, but %v", data, err)
		}
	})
}

func TestOrdinaryFactsArePlain(t *testing.T) {
	t.Parallel()
	for _, data := range examples() {
		err := protovalidate.Validate(data)
		text, _ := data.(*pb.PhotoPosted)
		// Counted in bytes, and addresses without a host or with a port: right, and
		// left to protovalidate.
		odd := len(text.GetPhoto().GetCaption()) > 2200
		for _, m := range text.GetPhoto().GetMedia() {
			odd = odd || strings.HasPrefix(m.GetUrl(), "https:///") || strings.HasPrefix(m.GetUrl(), "https://a:")
		}
		if got := plain(data); got != (err == nil) && !odd {
			t.Errorf("plain(%v) = %v, protovalidate says %v", data, got, err)
		}
	}
}

// What the Reader reads by hand is what protobuf reads.
func FuzzReaderIsUnmarshal(f *testing.F) {
	names := []string{
		"PhotoPosted", "PhotoDeleted", "UserFollowed", "UserUnfollowed", "UserBlocked", "UserUnblocked", "UserMuted", "UserUnmuted", "UserSawFeed",
	}
	for _, data := range examples() {
		bytes, err := proto.Marshal(data)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range names {
			f.Add(uint8(kind), bytes)
			f.Add(uint8(kind), append(bytes[:len(bytes):len(bytes)], bytes...))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, bytes []byte) {
		name := names[int(kind)%len(names)]
		var r Reader
		_ = r.fill(typePrefix+"PhotoPosted", "\x0a\x10\x12\x03ann\x1a\x05\x0a\x03url\x22\x02hi") // what is left of it does no harm
		got := r.fill(typePrefix+name, string(bytes))
		if got == nil {
			return
		}
		want := factories[name]()
		if err := proto.Unmarshal(bytes, want); err != nil {
			t.Fatalf("%s: read as %v, but %v", name, got, err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: read as %v, want %v", name, got, want)
		}
	})
}

// Ordinary facts are read by hand: else nothing would be quick.
func TestReaderReadsPlainFacts(t *testing.T) {
	t.Parallel()
	var r Reader
	for _, data := range examples() {
		bytes, err := proto.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		name := string(data.ProtoReflect().Descriptor().FullName())
		if got := r.fill(name, string(bytes)); plain(data) && !proto.Equal(got, data) {
			t.Errorf("fill(%s, %v) = %v", name, data, got)
		}
	}
}
