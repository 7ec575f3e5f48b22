// Package wire is what the senders share: what is not sent at all and, of HTTP, bounded
// answers, Retry-After and the meaning of a connection that failed.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"activityfeed/internal/fault"
	"activityfeed/notify/push"
)

const (
	// maxBody is how much of an answer is read: reasons are short.
	maxBody = 4 << 10
	// maxRetryAfter bounds what a push service may ask for.
	maxRetryAfter = 24 * time.Hour
)

// Answer is the answer of a push service, read and closed.
type Answer struct {
	Status int
	Header http.Header
	// Body is its beginning, at most 4 KB.
	Body []byte
}

// Do sends a request and reads its answer. A body that breaks off is no error: the
// status was said.
func Do(client *http.Client, req *http.Request) (Answer, error) {
	resp, err := client.Do(req) //nolint:gosec // endpoints come from outside; the guard of webpush is for that
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	// The rest is left unread; HTTP/2 resets the stream and keeps the connection.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// RetryAfter returns what the header asks for: seconds or a date (RFC 9110 section
// 10.2.3). It is 0 without one, and at most a day.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// Dialer returns a dialer that gives up soon.
func Dialer() *net.Dialer { return &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second} }

// NewClient returns a client for push services: HTTP/2 where it is spoken, no
// redirects, no proxy, dead connections found by pings. With strict, requests wait
// for a place on the connection that is there; without, another one is made.
func NewClient(dialer *net.Dialer, tlsConfig *tls.Config, strict bool) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true, // not by default with a dialer of one's own
			MaxIdleConnsPerHost: 8,
			// Without it a connection lives for ever (apns2#238).
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			// Errors and reasons are short; nothing is worth unpacking.
			DisableCompression: true,
			HTTP2: &http.HTTP2Config{
				StrictMaxConcurrentRequests: strict,
				// A connection that went dead in silence is found in 20 s and not by
				// the time-out of every push.
				SendPingTimeout:  15 * time.Second,
				PingTimeout:      5 * time.Second,
				WriteByteTimeout: 10 * time.Second,
			},
		},
	}
}

// Admit says whether an attempt is worth a request: the target must be one of the
// sender's, and the message not too late. It returns how long the provider shall keep
// the message, or, where ok is false, what came of the attempt.
func Admit(s push.Sender, to push.Target, m push.Message, now time.Time) (ttl time.Duration, out push.Outcome, ok bool) {
	ttl, expired := m.TTL(now)
	if expired {
		return 0, push.Outcome{Action: push.Drop, Reason: push.Expired}, false
	}
	if err := s.Check(to); err != nil {
		return 0, push.Outcome{Action: push.Drop, Reason: push.InvalidTarget, Strike: true, Code: fault.Of(err).Field}, false
	}
	return ttl, push.Outcome{}, true
}

// Failure says what a request without an answer means. The error's text, which names the endpoint, goes no
// further.
func Failure(ctx context.Context, err error, scope push.Scope) push.Outcome {
	out := push.Outcome{Action: push.Retry, Reason: push.Network, Scope: scope, Code: class(err)}
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		out.Reason, out.Scope = push.Canceled, push.ScopeDevice
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		out.Reason = push.Timeout
	}
	return out
}

// class names the kind of a network error without its text.
func class(err error) string {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &certificate), errors.As(err, &record):
		return "tls"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "reset"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "connection"
	}
}
