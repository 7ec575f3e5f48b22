package pushservice

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// APNsKeyID is what Apple calls the key.
	APNsKeyID = "KEY1234567"
	// APNsTeam is what Apple calls its owner.
	APNsTeam = "TEAM123456"

	maxAPNs = 4096
	// tokenLife is how long Apple takes a provider token, and how often it takes a
	// new one at most.
	tokenLife   = time.Hour
	tokenChange = 20 * time.Minute
)

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// APNs is Apple's push service.
type APNs struct {
	server

	key *ecdsa.PrivateKey
	// Under mu: the provider token in use, when it was first seen, how many there were.
	token   string
	changed time.Time
	changes int
}

// StartAPNs starts a service.
func StartAPNs(opts Options) (*APNs, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("push service: %w", err)
	}
	s := &APNs{server: server{opts: opts}, key: key}
	s.handler = http.HandlerFunc(s.push)
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// AuthKey returns the .p8 file that Apple gives a developer.
func (s *APNs) AuthKey() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// TokenChanges counts the provider tokens that were seen.
func (s *APNs) TokenChanges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// APNsError is an answer in Apple's form.
func APNsError(status int, reason string) *Reply {
	return &Reply{Status: status, Body: fmt.Sprintf(`{"reason":%q}`, reason)}
}

// APNsGone is the answer for a token that died at a time.
func APNsGone(reason string, at time.Time) *Reply {
	return &Reply{Status: http.StatusGone, Body: fmt.Sprintf(`{"reason":%q,"timestamp":%d}`, reason, at.UnixMilli())}
}

func (s *APNs) push(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	device, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	if !ok || device == "" {
		APNsError(http.StatusNotFound, "BadPath").write(w, r)
		return
	}
	w.Header().Set("Apns-Id", r.Header.Get("Apns-Id"))
	if refusal := s.authorized(r.Header.Get("Authorization")); refusal != nil {
		refusal.write(w, r)
		return
	}
	if len(body) > maxAPNs {
		APNsError(http.StatusRequestEntityTooLarge, "PayloadTooLarge").write(w, r)
		return
	}
	if err := apnsForm(r, body); err != nil {
		s.faultf("message: %v", err)
		APNsError(http.StatusBadRequest, "BadMessageId").write(w, r)
		return
	}
	push := Push{Device: device, Header: r.Header, Proto: r.Proto, Body: body, Size: len(body), Key: r.Header.Get("Apns-Collapse-Id")}
	if reply := s.record(push); reply != nil {
		reply.write(w, r)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// apnsForm checks what Apple asks of a request.
func apnsForm(r *http.Request, body []byte) error {
	h := r.Header
	var content struct {
		APS map[string]any `json:"aps"`
	}
	if err := json.Unmarshal(body, &content); err != nil || content.APS == nil {
		return fmt.Errorf("no aps in the payload: %w", err)
	}
	expiration, err := strconv.ParseInt(h.Get("Apns-Expiration"), 10, 64)
	kind, priority := h.Get("Apns-Push-Type"), h.Get("Apns-Priority")
	switch {
	case r.ProtoMajor != 2:
		return fmt.Errorf("%s is not HTTP/2", r.Proto)
	case h.Get("Apns-Topic") == "":
		return errors.New("no apns-topic")
	case err != nil || expiration < 0:
		return fmt.Errorf("apns-expiration %q", h.Get("Apns-Expiration"))
	case !uuidForm.MatchString(h.Get("Apns-Id")):
		return fmt.Errorf("apns-id %q", h.Get("Apns-Id"))
	case len(h.Get("Apns-Collapse-Id")) > 64:
		return fmt.Errorf("apns-collapse-id of %d bytes", len(h.Get("Apns-Collapse-Id")))
	case kind == "background" && priority != "5":
		return fmt.Errorf("a background push with priority %q", priority)
	case kind == "background" && content.APS["content-available"] != float64(1):
		return errors.New("a background push without content-available")
	case kind != "background" && kind != "alert":
		return fmt.Errorf("apns-push-type %q", kind)
	case priority != "5" && priority != "10" && priority != "1":
		return fmt.Errorf("apns-priority %q", priority)
	}
	return nil
}

// authorized checks the provider token as Apple documents it; nil is yes.
func (s *APNs) authorized(header string) *Reply {
	signed, ok := strings.CutPrefix(header, "bearer ")
	if !ok || signed == "" {
		return APNsError(http.StatusForbidden, "MissingProviderToken")
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(APNsTeam), jwt.WithTimeFunc(s.now))
	if err != nil || token.Header["kid"] != APNsKeyID {
		s.faultf("provider token: %v, kid %v", err, token.Header["kid"])
		return APNsError(http.StatusForbidden, "InvalidProviderToken")
	}
	issued, err := claims.GetIssuedAt()
	if err != nil || issued == nil || s.now().Sub(issued.Time) > tokenLife {
		return APNsError(http.StatusForbidden, "ExpiredProviderToken")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if signed == s.token {
		return nil
	}
	if !s.changed.IsZero() && s.now().Sub(s.changed) < tokenChange {
		return APNsError(http.StatusTooManyRequests, "TooManyProviderTokenUpdates")
	}
	s.token, s.changed = signed, s.now()
	s.changes++
	return nil
}
