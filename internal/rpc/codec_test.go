package rpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"activityfeed/internal/rpc"
	pb "activityfeed/proto/activityfeed/v1"
)

// encoded is a message that brings other bytes along than it says, so that one can
// tell which were sent.
type encoded struct {
	*pb.GetPostResponse

	err error
}

func (encoded) WireSize() int { return 3 } // too small: a hint only

func (e encoded) AppendWire(to []byte) ([]byte, error) {
	photo := protowire.AppendTag(nil, 1, protowire.BytesType)
	photo = protowire.AppendString(photo, "from bytes")
	to = protowire.AppendTag(to, 1, protowire.BytesType)
	return protowire.AppendBytes(to, photo), e.err
}

func TestEncodedResponsesAreSentAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		response any
		want     string
		code     codes.Code
	}{
		{"a message", &pb.GetPostResponse{Photo: &pb.Photo{PostId: "from the message"}}, "from the message", codes.OK},
		{"encoded", encoded{&pb.GetPostResponse{Photo: &pb.Photo{PostId: "from the message"}}, nil}, "from bytes", codes.OK},
		{"that cannot be encoded", encoded{&pb.GetPostResponse{}, errors.New("no bytes")}, "", codes.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, rpc.Config{}, &service{}, func(r grpc.ServiceRegistrar) {
				desc := pb.FeedService_ServiceDesc
				desc.HandlerType = (*any)(nil)
				desc.Methods = []grpc.MethodDesc{{MethodName: "GetPost", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
					return tt.response, decode(new(pb.GetPostRequest))
				}}}
				desc.Streams = nil
				r.RegisterService(&desc, struct{}{})
			})
			resp, err := pb.NewFeedServiceClient(b.conn).GetPost(t.Context(), &pb.GetPostRequest{})
			if got := resp.GetPhoto().GetPostId(); got != tt.want || status.Code(err) != tt.code {
				t.Errorf("GetPost = %q, %v, want %q, %v", got, err, tt.want, tt.code)
			}
		})
	}
}

// FuzzPlainRequests holds the quick look at requests to the rules.
func FuzzPlainRequests(f *testing.F) {
	f.Add("bob", int32(20), "token")
	f.Add("", int32(-1), "")
	f.Add("a.b_c:d-9", int32(0), string(make([]byte, 513)))
	f.Add("a,b", int32(0), "\xff")
	f.Fuzz(func(t *testing.T, user string, size int32, token string) {
		req := &pb.GetHomeFeedRequest{UserId: user, PageSize: size, PageToken: token}
		if err := protovalidate.Validate(req); req.Plain() && err != nil {
			t.Errorf("Plain(%v) = true, but %v", req, err)
		}
	})
}

func TestOrdinaryRequestsArePlain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		req  *pb.GetHomeFeedRequest
		want bool
	}{
		{"a first page", &pb.GetHomeFeedRequest{UserId: "user-1.x:Y_9"}, true},
		{"a next page", &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 20, PageToken: "AbC"}, true},
		{"no user", &pb.GetHomeFeedRequest{}, false},
		{"a user with a brace", &pb.GetHomeFeedRequest{UserId: "a}b"}, false},
		{"a long user", &pb.GetHomeFeedRequest{UserId: strings.Repeat("a", 65)}, false},
		{"a negative size", &pb.GetHomeFeedRequest{UserId: "bob", PageSize: -1}, false},
		{"a long token", &pb.GetHomeFeedRequest{UserId: "bob", PageToken: strings.Repeat("a", 513)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.req.Plain(); got != tt.want || got != (protovalidate.Validate(tt.req) == nil) {
				t.Errorf("Plain(%v) = %v, want %v and the rules' verdict", tt.req, got, tt.want)
			}
		})
	}
}
