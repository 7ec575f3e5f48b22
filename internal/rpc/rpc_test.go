package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"activityfeed/internal/fault"
	"activityfeed/internal/rpc"
	pb "activityfeed/proto/activityfeed/v1"
)

// service answers with what a test puts into it.
type service struct {
	pb.UnimplementedPostServiceServer
	pb.UnimplementedGraphServiceServer
	pb.UnimplementedNotificationServiceServer

	del   func(ctx context.Context) error
	watch func(ctx context.Context) error
}

func (s *service) DeletePhoto(ctx context.Context, _ *pb.DeletePhotoRequest) (*pb.DeletePhotoResponse, error) {
	if s.del == nil {
		return &pb.DeletePhotoResponse{}, nil
	}
	return &pb.DeletePhotoResponse{}, s.del(ctx)
}

func (s *service) WatchNotifications(_ *pb.WatchNotificationsRequest, stream grpc.ServerStreamingServer[pb.WatchNotificationsResponse]) error {
	if err := stream.Send(&pb.WatchNotificationsResponse{}); err != nil {
		return err
	}
	return s.watch(stream.Context())
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type bundle struct {
	server *rpc.Server
	conn   *grpc.ClientConn
	log    *syncBuffer
	reg    *prometheus.Registry
	// stop begins the shutdown, stopped gives what Run returned.
	stop    context.CancelFunc
	stopped chan error
}

func (b *bundle) post() pb.PostServiceClient            { return pb.NewPostServiceClient(b.conn) }
func (b *bundle) inbox() pb.NotificationServiceClient   { return pb.NewNotificationServiceClient(b.conn) }
func (b *bundle) wait(t *testing.T) error               { t.Helper(); return receive(t, b.stopped) }
func (b *bundle) deletePhoto(ctx context.Context) error { return deletePhoto(ctx, b.conn) }

func deletePhoto(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := pb.NewPostServiceClient(conn).DeletePhoto(ctx, &pb.DeletePhotoRequest{UserId: "ann", PostId: "1000000000000000001"})
	return err
}

// receive waits for an event of a test, and fails it rather than hang.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came within 20 s")
		panic("unreachable")
	}
}

func setup(t *testing.T, cfg rpc.Config, svc *service, register ...func(grpc.ServiceRegistrar)) *bundle {
	t.Helper()
	b := &bundle{log: new(syncBuffer), reg: prometheus.NewRegistry(), stopped: make(chan error, 1)}
	cfg.Addr = "127.0.0.1:0"
	var err error
	b.server, err = rpc.New(cfg, slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})), b.reg)
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterPostServiceServer(b.server.Registrar(), svc)
	pb.RegisterGraphServiceServer(b.server.Registrar(), svc)
	pb.RegisterNotificationServiceServer(b.server.Registrar(), svc)
	for _, f := range register {
		f(b.server.Registrar())
	}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.stopped <- b.server.Run(ctx)
	}()
	t.Cleanup(func() { stop(); receive(t, done) })
	receive(t, b.server.Ready())
	b.conn = dial(t, b.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	return b
}

func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

const driverText = "dial tcp 10.0.0.7:6379: connection refused"

func TestErrorBecomesStatus(t *testing.T) {
	t.Parallel()
	driver := errors.New(driverText)
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
	for _, tt := range []struct {
		name    string
		err     error
		code    codes.Code
		message string
		details []any
	}{
		{"invalid", fault.Invalid("page_token", "not a token of ours"), codes.InvalidArgument, "page_token: not a token of ours", []any{
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "page_token", Description: "not a token of ours"}}},
		}},
		{"invalid, wrapped", fmt.Errorf("read: %w", fault.Invalid("a", "b")), codes.InvalidArgument, "a: b", []any{
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Description: "b"}}},
		}},
		{"missing", fault.Missing("no post %d", 7), codes.NotFound, "no post 7", nil},
		{"outage", fault.Outage("read feed of ann", driver), codes.Unavailable, "read feed of ann", []any{retry}},
		{"too much to do", fault.Busy(9*time.Second, "feed of %s has to wait", "ann"), codes.Unavailable, "feed of ann has to wait", []any{&errdetails.RetryInfo{RetryDelay: durationpb.New(9 * time.Second)}}},
		{"outage by a time limit of ours", fault.Outage("read feed of ann", context.DeadlineExceeded), codes.Unavailable, "read feed of ann", []any{retry}},
		{"no kind", driver, codes.Internal, "internal error", nil},
		{"permanent", fault.Poison("undecodable", driver), codes.Internal, "internal error", nil},
		{"a status", status.Error(codes.ResourceExhausted, "slow down"), codes.ResourceExhausted, "slow down", nil},
		{"a status, wrapped", fmt.Errorf("%s: %w", driverText, status.Error(codes.Aborted, "again")), codes.Aborted, "again", nil},
		{"canceled", fmt.Errorf("%s: %w", driverText, context.Canceled), codes.Canceled, "the call was canceled", nil},
		{"deadline", fmt.Errorf("%s: %w", driverText, context.DeadlineExceeded), codes.DeadlineExceeded, "the deadline of the call has passed", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, rpc.Config{}, &service{
				del:   func(context.Context) error { return tt.err },
				watch: func(context.Context) error { return tt.err },
			})
			stream, err := b.inbox().WatchNotifications(t.Context(), &pb.WatchNotificationsRequest{UserId: "ann"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			_, streamErr := stream.Recv()
			for kind, err := range map[string]error{"unary": b.deletePhoto(t.Context()), "stream": streamErr} {
				got := status.Convert(err)
				if got.Code() != tt.code || got.Message() != tt.message {
					t.Errorf("%s: status = %s %q, want %s %q", kind, got.Code(), got.Message(), tt.code, tt.message)
				}
				if diff := cmp.Diff(tt.details, got.Details(), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s: details (-want +got):\n%s", kind, diff)
				}
			}
			// Operators, unlike callers, see the cause.
			if strings.Contains(tt.err.Error(), driverText) && !strings.Contains(b.log.String(), driverText) {
				t.Errorf("the log lacks the cause:\n%s", b.log)
			}
		})
	}
}

func TestEngineFailureAtTheCallersDeadlineIsNoOutage(t *testing.T) {
	t.Parallel()
	seen := make(chan codes.Code, 1)
	b := setup(t, rpc.Config{CallTimeout: time.Millisecond}, &service{del: func(ctx context.Context) error {
		<-ctx.Done()
		return fault.Outage("read feed of ann", errors.New("i/o timeout"))
	}})
	go func() { seen <- status.Code(b.deletePhoto(t.Context())) }()
	if got := receive(t, seen); got != codes.DeadlineExceeded {
		t.Errorf("code = %s, want %s", got, codes.DeadlineExceeded)
	}
}

func TestPanicIsOneFailedCall(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{
		del:   func(context.Context) error { panic("boom") },
		watch: func(context.Context) error { panic("boom") },
	})
	stream, err := b.inbox().WatchNotifications(t.Context(), &pb.WatchNotificationsRequest{UserId: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	for kind, err := range map[string]error{"unary": b.deletePhoto(t.Context()), "stream": err} {
		if got := status.Convert(err); got.Code() != codes.Internal || got.Message() != "internal error" {
			t.Errorf("%s: status = %v", kind, got)
		}
	}
	if log := b.log.String(); strings.Count(log, "panic in a call") != 2 || !strings.Contains(log, "rpc_test.go") {
		t.Errorf("the log lacks the panics or their stacks:\n%s", log)
	}
	want := map[string]float64{
		"/activityfeed.v1.PostService/DeletePhoto Internal":                1,
		"/activityfeed.v1.NotificationService/WatchNotifications Internal": 1,
	}
	if diff := cmp.Diff(want, b.requests(t)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// requests returns activityfeed_rpc_requests_total by "method code".
func (b *bundle) requests(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := map[string]string{}
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			switch f.GetName() {
			case "activityfeed_rpc_requests_total":
				got[label["method"]+" "+label["code"]] = m.GetCounter().GetValue()
			case "activityfeed_rpc_running":
				if n := m.GetGauge().GetValue(); n != 0 {
					t.Errorf("%v calls of %s still run", n, label["method"])
				}
			}
		}
	}
	return got
}

func TestCallsWithoutDeadlineGetOne(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		client time.Duration
		want   time.Duration
	}{
		{"none", 0, time.Minute},
		{"shorter", 30 * time.Second, 30 * time.Second},
		{"longer", time.Hour, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var left time.Duration
			b := setup(t, rpc.Config{CallTimeout: time.Minute}, &service{del: func(ctx context.Context) error {
				if deadline, ok := ctx.Deadline(); ok {
					left = time.Until(deadline)
				}
				return nil
			}})
			ctx := t.Context()
			if tt.client != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.client)
				defer cancel()
			}
			if err := b.deletePhoto(ctx); err != nil {
				t.Fatal(err)
			}
			// The rest is what the call itself took.
			if left > tt.want || left < tt.want-20*time.Second {
				t.Errorf("deadline in %s, want %s", left, tt.want)
			}
		})
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	type question struct{ Method, User string }
	var (
		mu    sync.Mutex
		asked []question
	)
	b := setup(t, rpc.Config{Authorize: func(_ context.Context, method, user string) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, question{method, user})
		switch user {
		case "ann":
			return nil
		case "bob":
			return status.Error(codes.PermissionDenied, "you are not bob")
		default:
			return fault.Outage("fetch keys", errors.New(driverText))
		}
	}}, &service{watch: func(context.Context) error { return nil }}, registerNobody)

	unary := func(user string) error {
		_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: user, PostId: "1000000000000000001"})
		return err
	}
	stream := func(user string) error {
		s, err := b.inbox().WatchNotifications(t.Context(), &pb.WatchNotificationsRequest{UserId: user})
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	malformed := func(user string) error {
		_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: user, PostId: "x"})
		return err
	}
	nobody := func(string) error {
		return b.conn.Invoke(t.Context(), "/test.Nobody/Call", &emptypb.Empty{}, &emptypb.Empty{})
	}
	for _, tt := range []struct {
		name string
		call func(string) error
		user string
		want codes.Code
	}{
		{"unary, allowed", unary, "ann", codes.OK},
		{"unary, refused", unary, "bob", codes.PermissionDenied},
		{"unary, authority down", unary, "eve", codes.Unavailable},
		{"stream, allowed", stream, "ann", codes.OK},
		{"stream, refused", stream, "bob", codes.PermissionDenied},
		{"asked before validation", malformed, "bob", codes.PermissionDenied},
		{"request without acting user", nobody, "", codes.Internal},
	} {
		// In sequence: the questions are compared below.
		if got := status.Code(tt.call(tt.user)); got != tt.want {
			t.Errorf("%s: code = %s, want %s", tt.name, got, tt.want)
		}
	}
	const del, watch = "/activityfeed.v1.PostService/DeletePhoto", "/activityfeed.v1.NotificationService/WatchNotifications"
	want := []question{{del, "ann"}, {del, "bob"}, {del, "eve"}, {watch, "ann"}, {watch, "bob"}, {del, "bob"}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("Authorize was asked (-want +got):\n%s", diff)
	}
	b.checkHealth(t, "", true)
}

// registerNobody registers a method whose request has no acting user.
func registerNobody(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Nobody",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(srv any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			req := new(emptypb.Empty)
			if err := dec(req); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Nobody/Call"}
			return in(ctx, req, info, func(context.Context, any) (any, error) { return &emptypb.Empty{}, nil })
		}}},
	}, struct{}{})
}

func TestMessagesInPlainWords(t *testing.T) {
	t.Parallel()
	away := func(context.Context) error { return fault.OutageAt("read 1 inboxes", errors.New(driverText)) }
	b := setup(t, rpc.Config{}, &service{del: away})
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"no user id", func() error {
			_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "a n n", PostId: "1000000000000000001"})
			return err
		}, "user_id: is not a user id: 1 to 64 characters of A-Z a-z 0-9 _ . : -"},
		{"no id", func() error {
			_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "ann", PostId: "7"})
			return err
		}, "post_id: is not an id of 19 digits"},
		{"none of several", func() error {
			_, err := b.inbox().MarkRead(t.Context(), &pb.MarkReadRequest{UserId: "ann"})
			return err
		}, "what: give one of notification_id, up_to_notification_id, group_newest_id"},
		{"an engine is away", func() error { return b.deletePhoto(t.Context()) }, "DeletePhoto cannot be served now; try again"},
	} {
		if got := status.Convert(tt.call()).Message(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "read 1 inboxes") || !strings.Contains(log, driverText) {
		t.Errorf("the log lacks the operation or the cause:\n%s", log)
	}
}

func TestValidationNamesTheField(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{
		del:   func(context.Context) error { t.Error("the handler saw an invalid request"); return nil },
		watch: func(context.Context) error { t.Error("the handler saw an invalid request"); return nil },
	})
	graph := pb.NewGraphServiceClient(b.conn)
	manyMentions := make([]string, 20)
	for i := range manyMentions {
		manyMentions[i] = fmt.Sprintf("not a user %d", i)
	}
	for _, tt := range []struct {
		name   string
		call   func() error
		fields []string
	}{
		{"one field", func() error {
			_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "ann", PostId: "7"})
			return err
		}, []string{"post_id"}},
		{"two fields", func() error {
			_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "a n n", PostId: "7"})
			return err
		}, []string{"user_id", "post_id"}},
		{"nested field", func() error {
			_, err := b.post().PostPhoto(t.Context(), &pb.PostPhotoRequest{UserId: "ann", Media: []*pb.Media{{Url: "http://x/y", Width: 1, Height: 0}}})
			return err
		}, []string{"media[0].height"}},
		{"rule over the message", func() error {
			_, err := graph.Follow(t.Context(), &pb.FollowRequest{UserId: "ann", TargetId: "ann"})
			return err
		}, []string{"target_id"}},
		{"stream", func() error {
			s, err := b.inbox().WatchNotifications(t.Context(), &pb.WatchNotificationsRequest{UserId: ""})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, []string{"user_id"}},
		{"no more than ten, so that clients can read the trailers", func() error {
			_, err := b.post().PostPhoto(t.Context(), &pb.PostPhotoRequest{UserId: "ann", Media: []*pb.Media{{Url: "http://x/y", Width: 1, Height: 1}}, Mentions: manyMentions})
			return err
		}, []string{"mentions[0]", "mentions[1]", "mentions[2]", "mentions[3]", "mentions[4]", "mentions[5]", "mentions[6]", "mentions[7]", "mentions[8]", "mentions[9]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st := status.Convert(tt.call())
			if st.Code() != codes.InvalidArgument {
				t.Fatalf("status = %v, want %s", st, codes.InvalidArgument)
			}
			var got []string
			for _, d := range st.Details() {
				for _, v := range d.(*errdetails.BadRequest).GetFieldViolations() {
					got = append(got, v.GetField())
					if !strings.Contains(st.Message(), v.GetField()+": "+v.GetDescription()) {
						t.Errorf("message %q does not name %s: %s", st.Message(), v.GetField(), v.GetDescription())
					}
				}
			}
			if diff := cmp.Diff(tt.fields, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestSizeIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{MaxRequestBytes: 100}, &service{})
	_, err := b.post().DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: strings.Repeat("a", 101), PostId: "1000000000000000001"})
	if got := status.Code(err); got != codes.ResourceExhausted {
		t.Errorf("code = %s, want %s", got, codes.ResourceExhausted)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  rpc.Config
		want []string
	}{
		{"zero value", rpc.Config{}, nil},
		{"no port", rpc.Config{Addr: "localhost"}, []string{"addr"}},
		{"all faults at once", rpc.Config{Addr: "x", MaxRequestBytes: -1, DrainTimeout: -1, CertFile: "a"}, []string{"api: addr:", "api: max-request-bytes:", "api: drain-timeout:", "api: key-file:"}},
		{"key alone", rpc.Config{KeyFile: "a"}, []string{"api: cert-file:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.cfg.Validate()
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("Validate() = %v", err)
			}
			for _, name := range tt.want {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("Validate() = %q does not name %q", err, name)
				}
			}
		})
	}
}
