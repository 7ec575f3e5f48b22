package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Config is the settings of the gRPC server. The zero value of each field means
// its default.
type Config struct {
	// Addr is where the server listens, host:port. Port 0 takes a free one.
	// Default 127.0.0.1:7070: without authentication, this machine only.
	Addr string `help:"Address of the gRPC port, host:port; port 0 takes a free one." default:"127.0.0.1:7070"`
	// MaxRequestBytes bounds one request message after decompression, in bytes.
	// Default 1 MiB: the largest valid photo command is about a tenth of that.
	MaxRequestBytes int `help:"Largest request message, in bytes, after decompression." default:"1048576"`
	// CallTimeout is the deadline of a unary call that comes without one.
	// Default 10s.
	CallTimeout time.Duration `help:"Deadline of unary calls that come without one." default:"10s"`
	// KeepaliveTime is how long a connection may be silent before the server
	// pings it. Default 30s: below the idle timeouts of common load balancers
	// and mobile NATs.
	KeepaliveTime time.Duration `help:"Silence on a connection after which the server pings it." default:"30s"`
	// KeepaliveTimeout is how long the server waits for the answer to a ping
	// before it closes the connection. Default 10s.
	KeepaliveTimeout time.Duration `help:"How long a ping may stay unanswered before the connection is closed." default:"10s"`
	// MinClientPing is the shortest interval at which clients may ping; faster
	// ones are disconnected. Default 10s.
	MinClientPing time.Duration `help:"Shortest interval at which clients may send keepalive pings." default:"10s"`
	// DrainTimeout is how long running calls may go on after shutdown began.
	// Default 10s.
	DrainTimeout time.Duration `help:"How long running calls may go on after shutdown began." default:"10s"`
	// CertFile and KeyFile are PEM files; together they switch TLS on. They are
	// read once, when the server is made. Default: no TLS.
	CertFile string `help:"PEM certificate chain; with --api-key-file, switches TLS on."`
	// KeyFile is the private key of CertFile.
	KeyFile string `help:"PEM private key of --api-cert-file."`

	// Authorize says whether the caller may act as a user; see the package
	// comment. It must be fast, or keep to the deadline of ctx. Default nil:
	// everyone may act as anyone.
	Authorize func(ctx context.Context, fullMethod, actingUser string) error `kong:"-"`
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:7070")
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, 1<<20)
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Second)
	c.KeepaliveTime = cmp.Or(c.KeepaliveTime, 30*time.Second)
	c.KeepaliveTimeout = cmp.Or(c.KeepaliveTimeout, 10*time.Second)
	c.MinClientPing = cmp.Or(c.MinClientPing, 10*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	return c
}

// Validate names every setting that cannot work, as its flag does (--api-addr is "api:
// addr"). Zero values are fine.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("api: "+format, args...)) }
	if c.Addr != "" {
		if _, _, err := net.SplitHostPort(c.Addr); err != nil {
			fault("addr: %q is not host:port", c.Addr)
		}
	}
	if c.MaxRequestBytes < 0 {
		fault("max-request-bytes: %d is negative", c.MaxRequestBytes)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"call-timeout", c.CallTimeout},
		{"keepalive-time", c.KeepaliveTime},
		{"keepalive-timeout", c.KeepaliveTimeout},
		{"min-client-ping", c.MinClientPing},
		{"drain-timeout", c.DrainTimeout},
	} {
		if f.value < 0 {
			fault("%s: %s is negative", f.name, f.value)
		}
	}
	switch {
	case c.CertFile != "" && c.KeyFile == "":
		fault("key-file: is missing; cert-file and key-file switch TLS on together")
	case c.CertFile == "" && c.KeyFile != "":
		fault("cert-file: is missing; cert-file and key-file switch TLS on together")
	}
	return errors.Join(errs...)
}
