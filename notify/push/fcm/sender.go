package fcm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"activityfeed/internal/fault"
	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

// maxToken bounds a registration token; Google says they may grow to 4 KB.
const maxToken = 4096

// Deps are the outside things that a Sender works with.
type Deps struct {
	// Log gets what an operator should know. Required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// RootCAs are who vouches for Google; nil means the system's.
	RootCAs *x509.CertPool
}

// Sender sends through FCM. It implements [push.Sender].
type Sender struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	url    string
	client *http.Client
	tokens *tokens
	quota  *rate.Limiter
}

// New returns a Sender; it reads the service account and talks to nobody.
func New(cfg Config, deps Deps) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Credentials == "" {
		return nil, errors.New("fcm: Credentials is required")
	}
	if deps.Log == nil {
		return nil, errors.New("fcm: Deps.Log is missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a, err := loadAccount(cfg.Credentials)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	client := wire.NewClient(wire.Dialer(), &tls.Config{RootCAs: deps.RootCAs, MinVersion: tls.VersionTLS12}, false)
	return &Sender{
		cfg: cfg, log: deps.Log, now: deps.Now, client: client,
		url:    cfg.BaseURL + "/v1/projects/" + url.PathEscape(a.ProjectID) + "/messages:send",
		tokens: newTokens(a, client, deps.Now),
		// FCM looks at minutes; a second's worth at once leaves room for everybody else.
		quota: rate.NewLimiter(rate.Limit(float64(cfg.PerMinute)/60), max(cfg.PerMinute/60, 1)),
	}, nil
}

// Close ends idle connections. Attempts under way are not touched.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Check implements [push.Sender].
func (s *Sender) Check(to push.Target) error {
	switch {
	case to.Token == "" || len(to.Token) > maxToken:
		return fault.Invalid("token", "must have 1 to %d bytes", maxToken)
	case strings.ContainsFunc(to.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fault.Invalid("token", "has characters that no token has")
	case to.TokenKind != "" && to.TokenKind != push.FCMToken && to.TokenKind != push.FCMFID:
		return fault.Invalid("token_kind", "is not %s or %s", push.FCMToken, push.FCMFID)
	}
	return nil
}

// Send implements [push.Sender]. A refused access token and a refused size are
// tried again within the attempt, once each.
func (s *Sender) Send(ctx context.Context, to push.Target, m push.Message) push.Outcome {
	ttl, out, ok := wire.Admit(s, to, m, s.now())
	if !ok {
		return out
	}
	if wait := s.wait(); wait > 0 {
		return push.Outcome{Action: push.Retry, Reason: push.RateLimited, Scope: push.ScopeProvider, RetryAfter: wait}
	}
	attempt, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	access, out, ok := s.tokens.get(attempt, "")
	if !ok {
		return s.noToken(ctx, out)
	}
	limit := maxMessage
	for renewed := false; ; {
		answer, err := s.post(attempt, access, encode(to, m, ttl, s.now(), limit))
		if err != nil {
			return wire.Failure(ctx, err, push.ScopeProvider)
		}
		said := parse(answer.Body)
		switch {
		case answer.Status == http.StatusUnauthorized && said.code() != codeThirdParty && !renewed:
			s.log.Warn("fcm: our access token was refused, asking for a new one")
			if access, out, ok = s.tokens.get(attempt, access); !ok {
				out.Status = answer.Status
				return s.noToken(ctx, out)
			}
			renewed = true
			continue
		case answer.Status == http.StatusRequestEntityTooLarge && limit > smallMessage:
			limit = smallMessage
			m.Body, m.Data = "", nil
			continue
		}
		return outcome(answer, said, to, s.now())
	}
}

// wait takes one of the project's messages, or returns when there is one.
func (s *Sender) wait() time.Duration {
	now := s.now()
	next := s.quota.ReserveN(now, 1)
	wait := next.DelayFrom(now)
	if wait > 0 {
		next.CancelAt(now)
	}
	return wait
}

// noToken is the outcome of an attempt that had no access token.
func (s *Sender) noToken(ctx context.Context, out push.Outcome) push.Outcome {
	if ctx.Err() != nil {
		return push.Outcome{Action: push.Retry, Reason: push.Canceled}
	}
	if out.Action == push.Pause {
		out.RetryAfter = max(out.RetryAfter, pauseFor)
	}
	return out
}

func (s *Sender) post(ctx context.Context, access string, content []byte) (wire.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(content))
	if err != nil {
		return wire.Answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+access)
	req.Header.Set("Content-Type", "application/json")
	return wire.Do(s.client, req)
}
