package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// handlerGrace is how long a handler may take to notice that its call was cut off.
const handlerGrace = 5 * time.Second

// handshakeTimeout bounds the time from a connection to its first HTTP/2 frames.
// grpc-go waits for handshakes even in Stop, and its default is two minutes: a
// silent connection would hold up every shutdown.
const handshakeTimeout = 3 * time.Second

// StreamWorkers is how many goroutines wait for calls. One that has answered a call
// keeps its stack, where a new one would grow it again: 6 us a call. Calls and
// streams beyond them get goroutines of their own.
const StreamWorkers = 256

// Server is a gRPC server with the layers of the package comment, standard health
// and reflection. It serves once.
type Server struct {
	cfg    Config
	log    *slog.Logger
	grpc   *grpc.Server
	health *health.Server

	// ending is done when streams have to end; endStreams gives it its cause.
	ending     context.Context //nolint:containedctx // no call's context: a signal to all of them
	endStreams context.CancelCauseFunc

	started atomic.Bool
	addr    atomic.Pointer[string]
	ready   chan struct{}
}

// New returns a server that does not listen yet. A nil reg means no metrics.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	metrics, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, health: health.NewServer(), ready: make(chan struct{})}
	s.ending, s.endStreams = context.WithCancelCause(context.Background())

	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(cfg.MaxRequestBytes),
		grpc.ForceServerCodecV2(newWireCodec()),
		grpc.NumStreamWorkers(StreamWorkers),
		grpc.ConnectionTimeout(min(handshakeTimeout, cfg.DrainTimeout)),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: cfg.KeepaliveTime, Timeout: cfg.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: cfg.MinClientPing, PermitWithoutStream: true}),
	}
	opts = append(opts, s.interceptors(metrics)...)
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("rpc: certificate: %w", err)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{cert},
			MinVersion:   tls.VersionTLS12,
		})))
	}
	s.grpc = grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

// Registrar is where domains register their services, before Run.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// SetServing sets what the health service says of one service by its full name
// (activityfeed.v1.FeedService), or of the whole server for the empty name. A
// service that nobody set is serving from Run on. Once shutdown has begun
// everything is NOT_SERVING, whatever is set.
func (s *Server) SetServing(service string, serving bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, status)
}

// Ready is closed once the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that the server listens on, the real port included;
// empty before Ready.
func (s *Server) Addr() string {
	if a := s.addr.Load(); a != nil {
		return *a
	}
	return ""
}

// Run listens and serves until ctx ends, then drains: health says NOT_SERVING,
// streams end with UNAVAILABLE, running calls have DrainTimeout to finish, and
// what is left is cut off. It returns nil after a shutdown in which every handler
// returned.
func (s *Server) Run(ctx context.Context) error {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("rpc: %w", err)
	}
	return s.Serve(ctx, lis)
}

// Serve is Run on a listener of the caller's, which it closes.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if s.started.Swap(true) {
		return errors.Join(errors.New("rpc: a server serves once"), lis.Close())
	}
	for service := range s.grpc.GetServiceInfo() {
		if _, err := s.health.Check(ctx, &healthpb.HealthCheckRequest{Service: service}); err != nil {
			s.SetServing(service, true)
		}
	}
	addr := lis.Addr().String()
	s.addr.Store(&addr)
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(lis) }()
	close(s.ready)
	s.log.Info("gRPC server listens", "addr", addr, "tls", s.cfg.CertFile != "")

	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("rpc: serve %s: %w", addr, err), s.drain())
	case <-ctx.Done():
		err, end := s.drain(), <-served
		if errors.Is(end, grpc.ErrServerStopped) {
			end = nil // the stop came before it had begun
		}
		return errors.Join(err, end)
	}
}

func (s *Server) drain() error {
	s.health.Shutdown()
	s.endStreams(errDraining)

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	limit := time.NewTimer(s.cfg.DrainTimeout)
	defer limit.Stop()
	select {
	case <-stopped:
		return nil
	case <-limit.C:
	}
	s.log.Warn("calls still run at the end of the drain and are cut off", "drain", s.cfg.DrainTimeout)
	s.grpc.Stop()
	limit.Reset(handlerGrace)
	select {
	case <-stopped:
		return nil
	case <-limit.C:
		// Waiting on would turn one stuck handler into a process that never ends.
		return fmt.Errorf("rpc: a handler still runs %s after its call was cut off", handlerGrace)
	}
}
