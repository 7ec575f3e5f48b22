package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"buf.build/go/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// errDraining is the cause of a stream context that shutdown has ended.
var errDraining = errors.New("rpc: the server is shutting down")

// interceptors returns the layers in the order of the package comment, which
// gives each one's reason.
func (s *Server) interceptors(m *metrics) []grpc.ServerOption {
	recovered := recovery.WithRecoveryHandlerContext(s.recovered)
	observe := observer{log: s.log, metrics: m}
	authorize := check(s.authorize)
	validate := check(validateRequest)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			recovery.UnaryServerInterceptor(recovered),
			observe.unary,
			s.deadline,
			statusUnary,
			authorize.unary,
			validate.unary,
		),
		grpc.ChainStreamInterceptor(
			recovery.StreamServerInterceptor(recovered),
			observe.stream,
			s.endWithServer,
			statusStream,
			authorize.stream,
			validate.stream,
		),
	}
}

func (s *Server) recovered(ctx context.Context, p any) error {
	method, _ := grpc.Method(ctx)
	s.log.ErrorContext(ctx, "panic in a call", "method", method, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	return errInternal.Err()
}

func (s *Server) deadline(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
	}
	return next(ctx, req)
}

// endWithServer gives a stream a context that shutdown ends: a stream that waits
// for news would otherwise hold the drain up to its limit.
func (s *Server) endWithServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.ending, func() { cancel(context.Cause(s.ending)) })
	defer stop()
	return next(srv, contextStream{stream, ctx})
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a stream's context is a method of the stream
}

func (s contextStream) Context() context.Context { return s.ctx }

// check looks at each request message before the handler does.
type check func(ctx context.Context, method string, req any) error

func (c check) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := c(ctx, info.FullMethod, req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (c check) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, checkedStream{stream, info.FullMethod, c})
}

type checkedStream struct {
	grpc.ServerStream

	method string
	check  check
}

func (s checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check(s.Context(), s.method, m)
}

// standardServices carry no acting user.
var standardServices = []string{"/grpc.health.v1.", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha."}

func (s *Server) authorize(ctx context.Context, method string, req any) error {
	request, ok := req.(interface{ GetUserId() string })
	if !ok {
		for _, prefix := range standardServices {
			if strings.HasPrefix(method, prefix) {
				return nil
			}
		}
		if s.cfg.Authorize != nil {
			return fmt.Errorf("rpc: %T has no acting user to authorize", req)
		}
		return nil
	}
	user := request.GetUserId()
	callOf(ctx).user = user
	if s.cfg.Authorize == nil {
		return nil
	}
	return s.cfg.Authorize(ctx, method, user)
}

// plain is a request that can tell, cheaply, that it is certainly right.
type plain interface{ Plain() bool }

func validateRequest(_ context.Context, _ string, req any) error {
	if p, ok := req.(plain); ok && p.Plain() {
		return nil
	}
	msg, ok := req.(proto.Message)
	if !ok {
		return fmt.Errorf("rpc: %T is no protobuf message", req)
	}
	err := protovalidate.Validate(msg)
	if err == nil {
		return nil
	}
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		// A rule of ours that does not compile or run: not the caller's fault.
		return fmt.Errorf("rpc: validate %T: %w", req, err)
	}
	return violationsStatus(msg, invalid).Err()
}
