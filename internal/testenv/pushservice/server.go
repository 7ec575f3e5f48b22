package pushservice

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options set up a service. The zero value is one on a free port.
type Options struct {
	// Addr is where to listen. Empty: a free port of 127.0.0.1.
	Addr string
	// Blind services read requests and take them unseen: for measurements.
	Blind bool
	// MaxStreams bounds the requests under way on a connection. Default 250.
	MaxStreams int
	// Now is the clock by which tokens are judged; nil means time.Now.
	Now func() time.Time
}

// Push is a message that a service accepted as well-formed: it is kept as received
// and given to the script.
type Push struct {
	// Device is the token, or the path of the endpoint.
	Device string
	// Header is the request's.
	Header http.Header
	// Body is the request's content, decrypted where it was encrypted, without its
	// padding.
	Body []byte
	// Size is the length of the content as it was sent.
	Size int
	// Key is the collapse key as the service sees it.
	Key string
	// Proto is the protocol of the request, "HTTP/2.0".
	Proto string
	// At is when it came.
	At time.Time
}

// Reply is what the script has a service answer.
type Reply struct {
	// Status is the HTTP status. 0: the connection breaks without an answer.
	Status int
	// Header are headers in addition to the service's own.
	Header map[string]string
	// Body is the content.
	Body string
	// Delay is how long the answer takes. It ends with the request.
	Delay time.Duration
}

// server is what the services share: TLS with HTTP/2, script, records.
type server struct {
	opts    Options
	handler http.Handler
	cert    tls.Certificate
	roots   *x509.CertPool

	mu       sync.Mutex
	script   func(Push) *Reply
	received []Push
	faults   []string
	addr     string
	http     *http.Server
	served   chan struct{}

	requests atomic.Int64
}

// start listens and serves. It may be called again after stop.
func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roots == nil {
		var err error
		if s.cert, s.roots, err = selfSigned(); err != nil {
			return fmt.Errorf("push service: certificate: %w", err)
		}
	}
	addr := s.addr
	if addr == "" {
		addr = s.opts.Addr
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("push service: %w", err)
	}
	s.addr = listener.Addr().String()
	streams := s.opts.MaxStreams
	if streams == 0 {
		streams = 250
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // connections that tests break
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12},
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streams},
	}
	s.served = make(chan struct{})
	go func(srv *http.Server, served chan struct{}) {
		defer close(served)
		_ = srv.ServeTLS(listener, "", "")
	}(s.http, s.served)
	return nil
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.handler.ServeHTTP(w, r)
}

// Restart starts a closed service again, on the same address with the same keys.
func (s *server) Restart() error { return s.start() }

// Close breaks all connections and ends the service, as a crash would. What it
// received stays readable.
func (s *server) Close() {
	s.mu.Lock()
	srv, served := s.http, s.served
	s.http = nil
	s.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Close()
	<-served
}

// Shutdown ends the service in good order: HTTP/2 clients are told by GOAWAY.
func (s *server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	srv, served := s.http, s.served
	s.http = nil
	s.mu.Unlock()
	if srv == nil {
		return errors.New("push service: not running")
	}
	err := srv.Shutdown(ctx)
	<-served
	return err
}

// URL is the service's origin.
func (s *server) URL() string { return "https://" + s.addr }

// RootCAs are who vouches for the service's certificate.
func (s *server) RootCAs() *x509.CertPool { return s.roots }

// Certificate is the service's certificate in DER, for another process.
func (s *server) Certificate() []byte { return s.cert.Certificate[0] }

// Requests counts all requests, refused ones too.
func (s *server) Requests() int64 { return s.requests.Load() }

// Script sets what is answered to well-formed messages; nil from it, or no script,
// accepts. It is called by many requests at once.
func (s *server) Script(script func(Push) *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Answer is a script of replies in their order, the last one for ever; nil ones
// accept.
func (s *server) Answer(replies ...*Reply) {
	var mu sync.Mutex
	s.Script(func(Push) *Reply {
		mu.Lock()
		defer mu.Unlock()
		reply := replies[0]
		if len(replies) > 1 {
			replies = replies[1:]
		}
		return reply
	})
}

// Received returns the well-formed messages so far, those that were answered
// otherwise than accepted too.
func (s *server) Received() []Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Push(nil), s.received...)
}

// Faults says what was wrong with the requests that were not well-formed.
func (s *server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.faults...)
}

func (s *server) now() time.Time {
	if s.opts.Now != nil {
		return s.opts.Now()
	}
	return time.Now()
}

// record keeps a message and returns what the script says to it.
func (s *server) record(p Push) *Reply {
	p.At = s.now()
	s.mu.Lock()
	s.received = append(s.received, p)
	script := s.script
	s.mu.Unlock()
	if script == nil {
		return nil
	}
	return script(p)
}

// faultf notes why a request was refused.
func (s *server) faultf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// write answers as the script said.
func (reply *Reply) write(w http.ResponseWriter, r *http.Request) {
	if reply.Delay > 0 {
		timer := time.NewTimer(reply.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if reply.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range reply.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, reply.Body)
}

// selfSigned makes a certificate for this machine that vouches for itself.
func selfSigned() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "push service on this machine"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(240 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots, nil
}

// Client returns a client that trusts the service, for what is not our sender.
func (s *server) Client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}
}
