package webpush

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"activityfeed/internal/fault"
	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

// Deps are the outside things that a Sender works with.
type Deps struct {
	// Log gets what an operator should know. Required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// RootCAs are who vouches for push services; nil means the system's.
	RootCAs *x509.CertPool
}

// Sender sends to Web Push endpoints. It implements [push.Sender].
type Sender struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	signer *signer
	// private are the origins that the guard does not apply to.
	private           map[string]bool
	guarded, anywhere *http.Client
}

// New returns a Sender. It reads the VAPID key, or makes it.
func New(cfg Config, deps Deps) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Subject == "" || cfg.Key == "" && cfg.KeyFile == "" {
		return nil, errors.New("webpush: Subject, and Key or KeyFile, are required")
	}
	if deps.Log == nil {
		return nil, errors.New("webpush: Deps.Log is missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	key, err := loadKey(cfg)
	if err != nil {
		return nil, fmt.Errorf("webpush: %w", err)
	}
	public, err := publicKey(key)
	if err != nil {
		return nil, fmt.Errorf("webpush: %w", err)
	}
	s := &Sender{
		cfg: cfg.withDefaults(), log: deps.Log, now: deps.Now,
		signer:  &signer{key: key, public: public, subject: cfg.Subject, now: deps.Now, tokens: map[string]token{}},
		private: map[string]bool{},
	}
	for _, origin := range cfg.PrivateOrigins {
		s.private[origin] = true
	}
	tlsConfig := &tls.Config{RootCAs: deps.RootCAs, MinVersion: tls.VersionTLS12}
	s.guarded = wire.NewClient(guardedDialer(), tlsConfig.Clone(), false)
	s.anywhere = wire.NewClient(wire.Dialer(), tlsConfig.Clone(), false)
	return s, nil
}

func loadKey(cfg Config) (*ecdsa.PrivateKey, error) {
	if cfg.Key != "" {
		return ParseKey(cfg.Key)
	}
	return LoadKey(cfg.KeyFile)
}

// PublicKey returns the VAPID public key in base64url: what a web page passes to
// pushManager.subscribe as applicationServerKey.
func (s *Sender) PublicKey() string { return s.signer.public }

// Close ends idle connections. Attempts under way are not touched.
func (s *Sender) Close() {
	s.guarded.CloseIdleConnections()
	s.anywhere.CloseIdleConnections()
}

// Check implements [push.Sender].
func (s *Sender) Check(to push.Target) error {
	if err := checkEndpoint(to.Endpoint, s.private); err != nil {
		return err
	}
	if len(to.P256dh) != pointSize {
		return fault.Invalid("p256dh", "is not a point of P-256 in %d bytes", pointSize)
	}
	if _, err := ecdh.P256().NewPublicKey(to.P256dh); err != nil {
		return fault.Invalid("p256dh", "is not a point of P-256")
	}
	if len(to.Auth) != authSize {
		return fault.Invalid("auth", "has not %d bytes", authSize)
	}
	return nil
}

// Send implements [push.Sender]. A refused token and a refused size are tried again
// within the attempt, once each.
func (s *Sender) Send(ctx context.Context, to push.Target, m push.Message) push.Outcome {
	ttl, out, ok := wire.Admit(s, to, m, s.now())
	if !ok {
		return out
	}
	origin := to.Origin()
	if m.Silent && origin == appleOrigin {
		return push.Outcome{Action: push.Drop, Reason: push.Unsupported}
	}
	auth, err := s.signer.authorization(origin)
	if err != nil {
		s.log.Error("web push: sign a VAPID token", "err", err)
		return push.Outcome{Action: push.Pause, Reason: push.Misconfigured, Scope: push.ScopeProvider, RetryAfter: time.Minute}
	}
	attempt, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	limit := limitOf(origin)
	for renewed := false; ; {
		answer, err := s.post(attempt, to, m, auth, ttl, limit)
		if err != nil {
			return failure(ctx, err)
		}
		switch {
		case refused(answer) && !renewed:
			fresh, ok, err := s.signer.renew(origin, auth)
			if ok {
				s.log.Warn("web push: our VAPID token was refused, trying a new one", "origin", origin, "status", answer.Status)
				auth, renewed = fresh, true
				continue
			}
			if err != nil {
				s.log.Error("web push: sign a VAPID token", "err", err)
			}
		case answer.Status == http.StatusRequestEntityTooLarge && limit > smallBody:
			limit = smallBody
			m.Body, m.Data = "", nil
			continue
		}
		return s.outcome(answer, ttl)
	}
}

// post makes one request.
func (s *Sender) post(ctx context.Context, to push.Target, m push.Message, auth token, ttl time.Duration, limit int) (wire.Answer, error) {
	content, err := body(to, m, limit)
	if err != nil {
		return wire.Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Endpoint, bytes.NewReader(content))
	if err != nil {
		return wire.Answer{}, err
	}
	req.Header = http.Header{
		"Authorization":    {auth.header},
		"Content-Encoding": {"aes128gcm"},
		"Content-Type":     {"application/octet-stream"},
		"Ttl":              {strconv.FormatInt(int64(ttl/time.Second), 10)},
		"Topic":            {topic(m.Collapse())},
		"Urgency":          {string(urgency(m))},
		"User-Agent":       {"activityfeed"},
	}
	client := s.guarded
	if s.private[to.Origin()] {
		client = s.anywhere
	}
	return wire.Do(client, req)
}

// topic returns a collapse key as RFC 8030 section 5.4 wants it: at most 32
// characters of base64url. It says nothing about the key.
func topic(collapse string) string {
	sum := sha256.Sum256([]byte(collapse))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

func urgency(m push.Message) push.Urgency {
	switch {
	case m.Silent && m.Urgency != push.VeryLow:
		return push.Low
	case m.Urgency == "":
		return push.Normal
	default:
		return m.Urgency
	}
}
