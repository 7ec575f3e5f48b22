package apns

import (
	"crypto/ecdsa"
	"sync"
	"time"

	"activityfeed/notify/push/internal/jws"
)

const (
	// window is the part of the clock that a token is made for.
	window = 30 * time.Minute
	// minChange is how long Apple wants a token to be used at least.
	minChange = 20 * time.Minute
)

// signer makes the provider tokens of a key.
type signer struct {
	key         *ecdsa.PrivateKey
	keyID, team string
	now         func() time.Time

	mu      sync.Mutex
	current token
}

// token is an Authorization header, its "iat" and since when we use it.
type token struct {
	header       string
	issued, made time.Time
}

// get returns the token to use now. It is at most 50 minutes old: made for a window
// that had 30 minutes behind it, and used for 20.
func (s *signer) get() (token, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	start := now.Truncate(window)
	if s.current.header != "" && (!s.current.issued.Before(start) || now.Sub(s.current.made) < minChange) {
		return s.current, nil
	}
	return s.sign(start, now)
}

// renew returns a token to try after refused was refused, and false if a new one
// would come too early.
func (s *signer) renew(refused token) (token, bool, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.header != refused.header {
		return s.current, true, nil
	}
	if now.Sub(refused.made) < minChange {
		return token{}, false, nil
	}
	t, err := s.sign(now.Truncate(time.Second), now)
	return t, err == nil, err
}

func (s *signer) sign(issued, now time.Time) (token, error) {
	jwt, err := jws.ES256(s.key, map[string]string{"kid": s.keyID}, struct {
		Issuer string `json:"iss"`
		Issued int64  `json:"iat"`
	}{s.team, issued.Unix()})
	if err != nil {
		return token{}, err
	}
	s.current = token{header: "bearer " + jwt, issued: issued, made: now}
	return s.current, nil
}
