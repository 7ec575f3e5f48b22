package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Ops is the operator's port: metrics, the two probes of a supervisor, profiles.
type Ops struct {
	listener net.Listener
	server   *http.Server
	mux      *http.ServeMux
}

// NewOps listens on addr at once, so that a taken port is an error at start.
// ready returns nil when the program can do its work, or what it waits for.
func NewOps(addr string, metrics prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) (*Ops, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("operator's port: %w", err)
	}
	return NewOpsOn(listener, metrics, ready, log), nil
}

// NewOpsOn is [NewOps] on a port that is open already; Run closes it.
func NewOpsOn(listener net.Listener, metrics prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) *Ops {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	// Profiles: what a busy process does, for `go tool pprof`.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &Ops{
		listener: listener,
		mux:      mux,
		server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 5 * time.Second,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
	}
}

// Handle adds a page for the operator. Patterns are those of http.ServeMux.
func (o *Ops) Handle(pattern string, h http.Handler) { o.mux.Handle(pattern, h) }

// Addr returns the address that it listens on.
func (o *Ops) Addr() string { return o.listener.Addr().String() }

// Run serves until ctx ends.
func (o *Ops) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- o.server.Serve(o.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := o.server.Shutdown(limited)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		return errors.Join(err, serveErr)
	}
	return err
}
