package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// metrics count calls by method and code. Methods are those registered, so the
// labels are bounded.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	running  *prometheus.GaugeVec
	// methods holds a *method by name.
	methods sync.Map
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "activityfeed_rpc_requests_total",
			Help: "Finished gRPC calls by method and status code; a stream counts once, at its end.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "activityfeed_rpc_request_seconds",
			Help:    "Duration of unary gRPC calls by method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "activityfeed_rpc_running",
			Help: "gRPC calls and streams that run now, by method.",
		}, []string{"method"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.running} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("rpc: metrics: %w", err)
		}
	}
	return m, nil
}

// method is what is counted of one method, so that calls need not look for each.
type method struct {
	seconds prometheus.Observer
	running prometheus.Gauge
}

func (m *metrics) of(name string) *method {
	if known, ok := m.methods.Load(name); ok {
		return known.(*method) //nolint:forcetypeassert // nothing else is stored
	}
	known, _ := m.methods.LoadOrStore(name, &method{
		seconds: m.seconds.WithLabelValues(name),
		running: m.running.WithLabelValues(name),
	})
	return known.(*method) //nolint:forcetypeassert // as above
}

// call is what the inner layers tell the observer.
type call struct {
	// user is the acting user, empty before the request was read.
	user string
	// cause is the error under the status: for the log, never for the caller.
	cause error
	// drained says that our own shutdown ended the stream: no reason for a warning.
	drained bool
}

type callKey struct{}

// callOf returns the call that ctx belongs to; outside the observer, one that
// nobody reads.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return new(call)
}

// observer measures and logs every call.
type observer struct {
	log     *slog.Logger
	metrics *metrics
}

func (o observer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	c, start := new(call), time.Now()
	o.metrics.of(info.FullMethod).running.Inc()
	// What is seen if next panics: the recovery above has not made its error yet.
	err = errInternal.Err()
	defer func() {
		took := time.Since(start)
		o.metrics.of(info.FullMethod).seconds.Observe(took.Seconds())
		o.finish(ctx, info.FullMethod, c, err, took)
	}()
	return next(context.WithValue(ctx, callKey{}, c), req)
}

func (o observer) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	c, start := new(call), time.Now()
	o.metrics.of(info.FullMethod).running.Inc()
	err = errInternal.Err()
	defer func() { o.finish(stream.Context(), info.FullMethod, c, err, time.Since(start)) }()
	return next(srv, contextStream{stream, context.WithValue(stream.Context(), callKey{}, c)})
}

func (o observer) finish(ctx context.Context, method string, c *call, err error, took time.Duration) {
	code := status.Code(err)
	o.metrics.of(method).running.Dec()
	o.metrics.requests.WithLabelValues(method, code.String()).Inc()
	level := levelOf(code)
	if c.drained {
		level = slog.LevelDebug
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("user_id", c.user),
		slog.String("code", code.String()),
		slog.Duration("took", took),
	}
	if c.cause != nil {
		attrs = append(attrs, slog.Any("err", c.cause))
	}
	o.log.LogAttrs(ctx, level, "call", attrs...)
}

// levelOf keeps the log quiet about what is the caller's own doing: it is counted.
func levelOf(code codes.Code) slog.Level {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}
