package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"activityfeed/internal/fault"
	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/jws"
	"activityfeed/notify/push/internal/wire"
)

var (
	tokenForm = regexp.MustCompile(`^([0-9A-Fa-f]{2}){16,100}$`)
	topicForm = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)

	// deliveries is the name space of the ids that we give Apple: an id of ours
	// always gives the same UUID.
	deliveries = uuid.NewSHA1(uuid.NameSpaceURL, []byte("activityfeed:push:delivery"))
)

// Deps are the outside things that a Sender works with.
type Deps struct {
	// Log gets what an operator should know. Required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// RootCAs are who vouches for Apple; nil means the system's.
	RootCAs *x509.CertPool
}

// Sender sends through APNs. It implements [push.Sender].
type Sender struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	signer *signer
	client *http.Client
}

// New returns a Sender; it reads the key and talks to nobody.
func New(cfg Config, deps Deps) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.KeyFile == "" {
		return nil, errors.New("apns: KeyFile is required")
	}
	if deps.Log == nil {
		return nil, errors.New("apns: Deps.Log is missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	text, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("apns: read the key: %w", err)
	}
	key, err := jws.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("apns: the key %s: %w", cfg.KeyFile, err)
	}
	return &Sender{
		cfg: cfg.withDefaults(), log: deps.Log, now: deps.Now,
		signer: &signer{key: key, keyID: cfg.KeyID, team: cfg.TeamID, now: deps.Now},
		// Strict: Apple grants one stream until it has seen a token, and a client that
		// makes a connection for each waiting push is taken for an attack.
		client: wire.NewClient(wire.Dialer(), &tls.Config{RootCAs: deps.RootCAs, MinVersion: tls.VersionTLS12}, true),
	}, nil
}

// Close ends idle connections. Attempts under way are not touched.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Check implements [push.Sender].
func (s *Sender) Check(to push.Target) error {
	switch {
	case !tokenForm.MatchString(to.Token):
		return fault.Invalid("token", "is not a device token in hexadecimal")
	case to.App != "" && !topicForm.MatchString(to.App):
		return fault.Invalid("app", "is not a bundle id")
	case to.Environment != "" && to.Environment != push.Production && to.Environment != push.Sandbox:
		return fault.Invalid("environment", "is not %s or %s", push.Production, push.Sandbox)
	}
	return nil
}

// Send implements [push.Sender]. A refused provider token and a refused size are
// tried again within the attempt, once each.
func (s *Sender) Send(ctx context.Context, to push.Target, m push.Message) push.Outcome {
	ttl, out, ok := wire.Admit(s, to, m, s.now())
	if !ok {
		return out
	}
	auth, err := s.signer.get()
	if err != nil {
		s.log.Error("apns: sign a provider token", "err", err)
		return push.Outcome{Action: push.Pause, Reason: push.Misconfigured, Scope: push.ScopeProvider, RetryAfter: pauseFor}
	}
	attempt, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	limit := maxPayload
	for renewed := false; ; {
		answer, err := s.post(attempt, to, m, auth, s.now().Add(ttl), limit)
		if err != nil {
			return wire.Failure(ctx, err, push.ScopeOrigin)
		}
		said := parse(answer.Body)
		switch {
		case answer.Status == http.StatusForbidden && strings.HasSuffix(said.Reason, "ProviderToken") && !renewed:
			fresh, ok, err := s.signer.renew(auth)
			if ok {
				s.log.Warn("apns: our provider token was refused, trying a new one", "reason", word(said.Reason))
				auth, renewed = fresh, true
				continue
			}
			if err != nil {
				s.log.Error("apns: sign a provider token", "err", err)
			}
		case answer.Status == http.StatusRequestEntityTooLarge && limit > smallPayload:
			limit = smallPayload
			m.Body, m.Data = "", nil
			continue
		}
		return outcome(answer, said, to, s.now())
	}
}

func (s *Sender) post(ctx context.Context, to push.Target, m push.Message, auth token, expires time.Time, limit int) (wire.Answer, error) {
	base := s.cfg.URL
	if to.Environment == push.Sandbox {
		base = s.cfg.SandboxURL
	}
	topic := to.App
	if topic == "" {
		topic = s.cfg.Topic
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/3/device/"+to.Token, bytes.NewReader(encode(m, limit)))
	if err != nil {
		return wire.Answer{}, err
	}
	req.Header = http.Header{
		"Authorization":    {auth.header},
		"Content-Type":     {"application/json"},
		"Apns-Id":          {uuid.NewSHA1(deliveries, []byte(m.ID)).String()},
		"Apns-Topic":       {topic},
		"Apns-Push-Type":   {"alert"},
		"Apns-Priority":    {priority(m)},
		"Apns-Expiration":  {strconv.FormatInt(expires.Unix(), 10)},
		"Apns-Collapse-Id": {collapseID(m)},
	}
	return wire.Do(s.client, req)
}
