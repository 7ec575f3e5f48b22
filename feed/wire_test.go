package feed

import (
	"bytes"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "activityfeed/proto/activityfeed/v1"
)

// What is put together from bytes is what the message says, to the byte, with
// everything that can be in a page.
func TestAPageIsEncodedAsItsMessage(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		var posts []string
		for range 5 {
			posts = append(posts, p.post(t, "ann"))
		}
		p.apply(t, &pb.UserSawFeed{UserId: "bob", PostId: posts[1]})
		for _, req := range []*pb.GetHomeFeedRequest{
			{UserId: "nobody"},
			{UserId: "bob"},
			{UserId: "bob", PageSize: 2},
			{UserId: "bob", PageSize: 2, WithUnseen: true},
		} {
			for range 2 { // from Redis, then from memory
				page, err := p.api.homeFeed(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				want, err := proto.Marshal(page)
				if err != nil {
					t.Fatal(err)
				}
				got, err := page.AppendWire([]byte("before"))
				if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
					t.Errorf("AppendWire of %v = %x, %v, want %x", req, got, err, want)
				}
				if n := page.WireSize(); n != len(want) {
					t.Errorf("WireSize of %v = %d, want %d", req, n, len(want))
				}
			}
		}
	})
}

// A field that is new in the answer is sent by servers that know nothing of bytes, so
// it has to be by ours.
func TestAPageIsEncodedWithAllItsFields(t *testing.T) {
	t.Parallel()
	full := new(pb.GetHomeFeedResponse) // but for its photos
	fields := full.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		switch field := fields.Get(i); {
		case field.Name() == "photos":
		case field.Message() != nil:
			full.ProtoReflect().Set(field, full.ProtoReflect().NewField(field))
		case field.Kind() == protoreflect.BoolKind:
			full.ProtoReflect().Set(field, protoreflect.ValueOfBool(true))
		case field.Kind() == protoreflect.StringKind:
			full.ProtoReflect().Set(field, protoreflect.ValueOfString("x"))
		default:
			t.Fatalf("give %s a value here", field.Name())
		}
	}
	page := homeFeed{rest: full}
	var sent pb.GetHomeFeedResponse
	bytes, err := page.AppendWire(nil)
	if err != nil || proto.Unmarshal(bytes, &sent) != nil || !proto.Equal(&sent, full) {
		t.Errorf("sent %v, %v, want %v", &sent, err, full)
	}
}

// A server that knows nothing of bytes, and whoever wants JSON, get the message.
func TestAPageIsAMessageForOthers(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, smallConfig())
	p.apply(t, followed("bob", "ann"))
	post := p.post(t, "ann")
	server := grpc.NewServer()
	server.RegisterService(serviceDesc(), p.api)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Stop(); <-served }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resp, err := pb.NewFeedServiceClient(conn).GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob"})
	if err != nil || len(resp.GetPhotos()) != 1 || resp.GetPhotos()[0].GetPostId() != post {
		t.Errorf("GetHomeFeed = %v, %v, want post %s", resp, err, post)
	}
	page, err := p.api.homeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := page.message()
	if err != nil || len(want.GetPhotos()) != 1 {
		t.Fatalf("message = %v, %v, want one photo", want, err)
	}
	var read pb.GetHomeFeedResponse
	if text, err := protojson.Marshal(page); err != nil || protojson.Unmarshal(text, &read) != nil || !proto.Equal(&read, want) {
		t.Errorf("JSON = %s, %v, want %v", text, err, want)
	}
}
