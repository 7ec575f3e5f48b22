package rpc

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"activityfeed/internal/fault"
)

// retryDelay is what RetryInfo tells a caller when an engine is down: long enough
// that a crowd of retries does not hold it down, short for a person who waits.
const retryDelay = time.Second

// maxViolations bounds the violations of one answer. They travel in the trailers,
// and many clients refuse headers above 8 KiB.
const maxViolations = 10

var errInternal = status.New(codes.Internal, "internal error")

func statusUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	if err != nil {
		callOf(ctx).cause = err
		return nil, statusOf(ctx, err).Err()
	}
	return resp, nil
}

func statusStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := next(srv, stream)
	ctx := stream.Context()
	if errors.Is(context.Cause(ctx), errDraining) {
		// Whatever the handler made of its ended context, even nil: a caller who
		// watches has to know that this is no end of the news.
		if c := statusOf(ctx, err).Code(); c == codes.OK || c == codes.Canceled || c == codes.Unavailable {
			callOf(ctx).drained = true
			return unavailable("the server is shutting down; connect again", retryDelay).Err()
		}
	}
	if err != nil {
		callOf(ctx).cause = err
	}
	return statusOf(ctx, err).Err()
}

// statusOf says what a caller may know of err. It is the only place where that is
// decided.
func statusOf(ctx context.Context, err error) *status.Status {
	if err == nil {
		return nil
	}
	f := fault.Of(err)
	var chosen interface{ GRPCStatus() *status.Status }
	switch {
	case f != nil && f.Kind == fault.InvalidArgument:
		return invalidField(f.Field, f.Message)
	case f != nil && f.Kind == fault.NotFound:
		return status.New(codes.NotFound, f.Message)
	case f != nil && f.Kind == fault.Unavailable:
		// An engine that failed because the caller's time was up is no outage.
		if ctx.Err() != nil {
			return contextStatus(ctx.Err())
		}
		return unavailable(cmp.Or(f.Message, notNow(ctx)), cmp.Or(f.RetryAfter, retryDelay))
	case f != nil:
		return errInternal
	case errors.As(err, &chosen):
		// The status itself, not status.FromError: that would show the text of
		// what is wrapped around it.
		return chosen.GRPCStatus()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return contextStatus(err)
	}
	return errInternal
}

// notNow is what a caller hears of an engine that is away: what was tried there helps
// nobody outside.
func notNow(ctx context.Context) string {
	name := "this call"
	if method, ok := grpc.Method(ctx); ok {
		name = method[strings.LastIndexByte(method, '/')+1:]
	}
	return name + " cannot be served now; try again"
}

func contextStatus(err error) *status.Status {
	if errors.Is(err, context.DeadlineExceeded) {
		return status.New(codes.DeadlineExceeded, "the deadline of the call has passed")
	}
	return status.New(codes.Canceled, "the call was canceled")
}

func unavailable(message string, after time.Duration) *status.Status {
	return withDetail(status.New(codes.Unavailable, message),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
}

func invalidField(field, message string) *status.Status {
	return violationsOf([]*errdetails.BadRequest_FieldViolation{{Field: field, Description: message}})
}

// violationsStatus turns the findings of protovalidate into INVALID_ARGUMENT.
func violationsStatus(msg proto.Message, invalid *protovalidate.ValidationError) *status.Status {
	descriptor := msg.ProtoReflect().Descriptor()
	found := invalid.Violations[:min(len(invalid.Violations), maxViolations)]
	violations := make([]*errdetails.BadRequest_FieldViolation, 0, len(found))
	for _, v := range found {
		field, message := protovalidate.FieldPathString(v.Proto.GetField()), plainWords(v.Proto.GetMessage())
		if oneof := descriptor.Oneofs().ByName(protoreflect.Name(field)); oneof != nil {
			message = "give one of " + fieldNames(oneof)
		}
		if field == "" {
			// A rule over the whole message has no path. By our convention its
			// text begins with the field to blame.
			if word, rest, _ := strings.Cut(message, " "); descriptor.Fields().ByName(protoreflect.Name(word)) != nil {
				field, message = word, rest
			}
		}
		violations = append(violations, &errdetails.BadRequest_FieldViolation{
			Field: field, Description: message, Reason: v.Proto.GetRuleId(),
		})
	}
	return violationsOf(violations)
}

// patterns says in plain words what does not match them. A test holds it to the contract.
var patterns = map[string]string{
	"^[A-Za-z0-9_.:-]{1,64}$": "is not a user id: 1 to 64 characters of A-Z a-z 0-9 _ . : -",
	"^[1-9][0-9]{18}$":        "is not an id of 19 digits",
	"^([1-9][0-9]{18})?$":     "is not an id of 19 digits",
	"^[A-Za-z0-9_-]{22}$":     "is not a device id: 22 characters of A-Z a-z 0-9 _ -",
	"^([A-Za-z0-9_-]{22})?$":  "is not a device id: 22 characters of A-Z a-z 0-9 _ -",
	"^https?://":              "does not begin with http:// or https://",
}

// plainWords replaces the words of protovalidate for a pattern by ours.
func plainWords(message string) string {
	pattern, ok := strings.CutPrefix(message, "does not match regex pattern `")
	if words := patterns[strings.TrimSuffix(pattern, "`")]; ok && words != "" {
		return words
	}
	return message
}

// fieldNames lists the fields of a oneof: "a, b, c".
func fieldNames(oneof protoreflect.OneofDescriptor) string {
	var names []string
	for i := range oneof.Fields().Len() {
		names = append(names, string(oneof.Fields().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}

func violationsOf(violations []*errdetails.BadRequest_FieldViolation) *status.Status {
	texts := make([]string, len(violations))
	for i, v := range violations {
		texts[i] = strings.TrimPrefix(v.GetField()+": "+v.GetDescription(), ": ")
	}
	return withDetail(status.New(codes.InvalidArgument, strings.Join(texts, "; ")),
		&errdetails.BadRequest{FieldViolations: violations})
}

// withDetail adds a detail. It cannot fail on the codes and messages used here;
// if it ever does, the bare status still tells the truth.
func withDetail(st *status.Status, detail protoadapt.MessageV1) *status.Status {
	if detailed, err := st.WithDetails(detail); err == nil {
		return detailed
	}
	return st
}
