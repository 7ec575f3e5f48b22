package webpush

import (
	"crypto/ecdsa"
	"sync"
	"time"

	"activityfeed/notify/push/internal/jws"
)

const (
	// tokenLife is the "exp" of a token; RFC 8292 section 2 allows 24 h, and clocks
	// differ.
	tokenLife = 12 * time.Hour
	// tokenAge is when a token is replaced.
	tokenAge = 6 * time.Hour
	// renewAge is how old a token must be before a refusal has it replaced: a push
	// service that refuses everything does not make us sign for every push.
	renewAge = time.Minute
	// maxTokens bounds the cache: whoever registers chooses the origins.
	maxTokens = 10_000
)

// signer proves to push services who we are: RFC 8292.
type signer struct {
	key     *ecdsa.PrivateKey
	public  string
	subject string
	now     func() time.Time

	mu     sync.Mutex
	tokens map[string]token // by origin
}

// token is an Authorization header and when it was made.
type token struct {
	header string
	made   time.Time
}

// authorization returns the header for an origin: one signature in six hours, not
// one a push.
func (s *signer) authorization(origin string) (token, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.tokens[origin]; ok && now.Sub(t.made) < tokenAge {
		return t, nil
	}
	return s.sign(origin, now)
}

// renew returns a header to try after refused was refused, and false if it is too
// young to be the reason.
func (s *signer) renew(origin string, refused token) (token, bool, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[origin]; t.header != "" && t.header != refused.header {
		return t, true, nil // another push has renewed it
	}
	if now.Sub(refused.made) < renewAge {
		return token{}, false, nil
	}
	t, err := s.sign(origin, now)
	return t, err == nil, err
}

func (s *signer) sign(origin string, now time.Time) (token, error) {
	jwt, err := jws.ES256(s.key, nil, struct {
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub"`
	}{origin, now.Add(tokenLife).Unix(), s.subject})
	if err != nil {
		return token{}, err
	}
	if len(s.tokens) >= maxTokens {
		clear(s.tokens)
	}
	t := token{header: "vapid t=" + jwt + ", k=" + s.public, made: now}
	s.tokens[origin] = t
	return t, nil
}
