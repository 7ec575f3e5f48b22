package feed

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "activityfeed/proto/activityfeed/v1"
)

// homeFeed is a page of a home feed with the bytes of its photos, as they lie in
// Redis and in the memory of readers: to encode twenty photos anew for each reader
// took 31 us of 200. It is the message for everybody else.
type homeFeed struct {
	*pb.GetHomeFeedResponse

	bodies []string
}

// photosTag is the tag of the field photos of a response.
var photosTag = protowire.AppendTag(nil, 1, protowire.BytesType)

// WireSize returns the length of the encoded message.
func (f homeFeed) WireSize() int {
	size := proto.Size(f.rest())
	for _, body := range f.bodies {
		size += len(photosTag) + protowire.SizeBytes(len(body))
	}
	return size
}

// AppendWire appends the encoded message.
func (f homeFeed) AppendWire(to []byte) ([]byte, error) {
	for _, body := range f.bodies {
		to = append(to, photosTag...)
		to = protowire.AppendString(to, body)
	}
	return proto.MarshalOptions{}.MarshalAppend(to, f.rest())
}

// rest is the response without its photos.
func (f homeFeed) rest() *pb.GetHomeFeedResponse {
	return &pb.GetHomeFeedResponse{
		NextPageToken: f.GetNextPageToken(), HasMore: f.GetHasMore(), Unseen: f.GetUnseen(), WatchCursor: f.GetWatchCursor(),
	}
}

// serviceDesc is that of the FeedService, but that GetHomeFeed answers with a
// [homeFeed].
func serviceDesc() *grpc.ServiceDesc {
	desc := pb.FeedService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	i := slices.IndexFunc(desc.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == "GetHomeFeed" })
	desc.Methods[i].Handler = getHomeFeed
	return &desc
}

func getHomeFeed(service any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order is grpc's
	handle := func(ctx context.Context, req any) (any, error) {
		return service.(*feedService).homeFeed(ctx, req.(*pb.GetHomeFeedRequest)) //nolint:forcetypeassert // as generated code does
	}
	req := new(pb.GetHomeFeedRequest)
	if err := decode(req); err != nil {
		return nil, err
	}
	if intercept == nil {
		return handle(ctx, req)
	}
	return intercept(ctx, req, &grpc.UnaryServerInfo{Server: service, FullMethod: pb.FeedService_GetHomeFeed_FullMethodName}, handle)
}
