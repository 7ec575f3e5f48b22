package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"activityfeed/internal/rpc"
	pb "activityfeed/proto/activityfeed/v1"
)

func (b *bundle) checkHealth(t *testing.T, service string, serving bool) {
	t.Helper()
	resp, err := healthpb.NewHealthClient(b.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatalf("Check(%q): %v", service, err)
	}
	if got := resp.GetStatus() == healthpb.HealthCheckResponse_SERVING; got != serving {
		t.Errorf("Check(%q) = %s, want serving %t", service, resp.GetStatus(), serving)
	}
}

func TestHealthPerService(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{})
	const post, inbox = "activityfeed.v1.PostService", "activityfeed.v1.NotificationService"
	b.checkHealth(t, "", true)
	b.checkHealth(t, post, true)
	b.server.SetServing(inbox, false)
	b.checkHealth(t, inbox, false)
	b.checkHealth(t, post, true)
	b.server.SetServing(inbox, true)
	b.checkHealth(t, inbox, true)
}

func TestReflectionListsServices(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{})
	stream, err := reflectionpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	services := resp.GetListServicesResponse().GetService()
	names := make([]string, 0, len(services))
	for _, s := range services {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"activityfeed.v1.PostService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("reflection lists %q, without %s", names, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

func TestShutdownEndsStreamsAndLetsCallsFinish(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// end is what the handler of the stream returns once its context has ended.
		end func(ctx context.Context) error
	}{
		{"handler returns nil", func(context.Context) error { return nil }},
		{"handler returns the context's error", func(ctx context.Context) error { return ctx.Err() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inCall, finish := make(chan struct{}), make(chan struct{})
			b := setup(t, rpc.Config{DrainTimeout: 15 * time.Second}, &service{
				del: func(ctx context.Context) error {
					close(inCall)
					<-finish
					return ctx.Err()
				},
				watch: func(ctx context.Context) error { <-ctx.Done(); return tt.end(ctx) },
			})
			stream, err := b.inbox().WatchNotifications(t.Context(), &pb.WatchNotificationsRequest{UserId: "ann"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			answered := make(chan error, 1)
			go func() { answered <- b.deletePhoto(t.Context()) }()
			receive(t, inCall)

			b.stop()
			_, err = stream.Recv()
			if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != "the server is shutting down; connect again" {
				t.Errorf("the stream ended with %v", err)
			}
			close(finish)
			if err := receive(t, answered); err != nil {
				t.Errorf("the running call ended with %v, want success", err)
			}
			if err := b.wait(t); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
}

func TestHealthWatchersHearOfTheShutdown(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{})
	stream, err := healthpb.NewHealthClient(b.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("Recv() = %v, %v", resp, err)
	}
	b.stop()
	// NOT_SERVING first, if it wins the race against the end of the stream.
	var resp *healthpb.HealthCheckResponse
	for err == nil {
		if resp, err = stream.Recv(); err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("Recv() = %v", resp)
		}
	}
	if got := status.Code(err); got != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if err := b.wait(t); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	inCall := make(chan struct{})
	b := setup(t, rpc.Config{DrainTimeout: 50 * time.Millisecond}, &service{del: func(ctx context.Context) error {
		close(inCall)
		<-ctx.Done()
		return ctx.Err()
	}})
	answered := make(chan error, 1)
	go func() { answered <- b.deletePhoto(t.Context()) }()
	receive(t, inCall)
	b.stop()
	if got := status.Code(receive(t, answered)); got != codes.Unavailable {
		t.Errorf("code of the call that was cut off = %s, want %s", got, codes.Unavailable)
	}
	if err := b.wait(t); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

// A port scanner or a load balancer's TCP probe says nothing; grpc-go would wait
// two minutes for its handshake, in Stop as well.
func TestShutdownDoesNotWaitForSilentConnections(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{DrainTimeout: 100 * time.Millisecond}, &service{})
	conn, err := net.Dial("tcp", b.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.stop()
	if err := b.wait(t); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestServeOnOwnListenerAndOnce(t *testing.T) {
	t.Parallel()
	s, err := rpc.New(rpc.Config{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterPostServiceServer(s.Registrar(), &service{})
	lis := bufconn.Listen(1 << 16)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, lis) }()
	receive(t, s.Ready())
	conn := dial(t, "passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err := deletePhoto(t.Context(), conn); err != nil {
		t.Error(err)
	}
	if err := s.Serve(ctx, bufconn.Listen(1)); err == nil {
		t.Error("a second Serve succeeds")
	}
	stop()
	if err := receive(t, served); err != nil {
		t.Errorf("Serve() = %v", err)
	}
}

func TestRunNamesTheAddressItCannotHave(t *testing.T) {
	t.Parallel()
	b := setup(t, rpc.Config{}, &service{})
	s, err := rpc.New(rpc.Config{Addr: b.server.Addr()}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	var opErr *net.OpError
	if err := s.Run(t.Context()); !errors.As(err, &opErr) || opErr.Addr.String() != b.server.Addr() {
		t.Errorf("Run() = %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, pool := selfSigned(t)
	b := setup(t, rpc.Config{CertFile: certFile, KeyFile: keyFile}, &service{})
	secure := dial(t, b.server.Addr(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "localhost")))
	if err := deletePhoto(t.Context(), secure); err != nil {
		t.Error(err)
	}
	if got := status.Code(b.deletePhoto(t.Context())); got != codes.Unavailable {
		t.Errorf("code without TLS = %s, want %s", got, codes.Unavailable)
	}
	if _, err := rpc.New(rpc.Config{CertFile: certFile, KeyFile: certFile}, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("New accepts a key file without a key")
	}
}

func selfSigned(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	if err := errors.Join(
		os.WriteFile(certFile, certPEM, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}
