package pushservice

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	fcmProject = "test-project"
	fcmAccount = "sender@test-project.iam.gserviceaccount.com"
	fcmScope   = "https://www.googleapis.com/auth/firebase.messaging"
	// maxFCM is the limit of a message's content.
	maxFCM = 4096
)

// FCM is Google's push service with its token service, for one project.
type FCM struct {
	server

	key    *rsa.PrivateKey
	tokens map[string]bool // access tokens that are valid, under mu
	// exchanges counts the access tokens given.
	exchanges atomic.Int64
	// tokenReply is what the token service answers instead, under mu.
	tokenReply *Reply
}

// StartFCM starts a service.
func StartFCM(opts Options) (*FCM, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("push service: %w", err)
	}
	s := &FCM{server: server{opts: opts}, key: key, tokens: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /v1/projects/"+fcmProject+"/messages:send", s.send)
	s.handler = mux
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// ServiceAccount returns the JSON file that Google gives a server, with this
// service as the token service.
func (s *FCM) ServiceAccount() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     fcmProject,
		"private_key_id": "key-1",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   fcmAccount,
		"token_uri":      s.URL() + "/token",
	})
}

// Exchanges counts the access tokens that were given.
func (s *FCM) Exchanges() int64 { return s.exchanges.Load() }

// Revoke makes the access tokens so far invalid.
func (s *FCM) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// TokenReply has the token service answer this; nil: access tokens again.
func (s *FCM) TokenReply(r *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokenReply = r
}

// token is Google's exchange of a signed assertion for an access token.
func (s *FCM) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	reply := s.tokenReply
	s.mu.Unlock()
	if reply != nil {
		reply.write(w, r)
		return
	}
	if err := s.asserted(r); err != nil {
		s.faultf("assertion: %v", err)
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	access := rand.Text()
	s.exchanges.Add(1)
	s.mu.Lock()
	s.tokens[access] = true
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"expires_in":3599,"token_type":"Bearer"}`, access)
}

func (s *FCM) asserted(r *http.Request) error {
	if got := r.FormValue("grant_type"); got != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("grant_type %q", got)
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(r.FormValue("assertion"), claims, func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(s.URL()+"/token"), jwt.WithIssuer(fcmAccount),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return err
	}
	expires, err := token.Claims.GetExpirationTime()
	if err != nil || time.Until(expires.Time) > time.Hour+time.Minute {
		return errors.New("exp is more than an hour away")
	}
	if scope, _ := claims["scope"].(string); scope != fcmScope {
		return fmt.Errorf("scope %q", scope)
	}
	if token.Header["kid"] != "key-1" {
		return fmt.Errorf("kid %v", token.Header["kid"])
	}
	return nil
}

// FCMMessage is a message as FCM's REST reference has it, so far as we check it.
type FCMMessage struct {
	Token        string            `json:"token"`
	FID          string            `json:"fid"`
	Data         map[string]string `json:"data"`
	Notification *struct {
		Title string `json:"title"`
		Body  string `json:"body"`
	} `json:"notification"`
	Android *struct {
		CollapseKey  string `json:"collapse_key"`
		Priority     string `json:"priority"`
		TTL          string `json:"ttl"`
		Notification *struct {
			Tag               string `json:"tag"`
			NotificationCount int    `json:"notification_count"`
		} `json:"notification"`
	} `json:"android"`
	APNs *struct {
		Headers map[string]string          `json:"headers"`
		Payload map[string]json.RawMessage `json:"payload"`
	} `json:"apns"`
}

func (s *FCM) send(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	access, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	valid := s.tokens[access]
	s.mu.Unlock()
	if !valid {
		FCMError(http.StatusUnauthorized, "UNAUTHENTICATED", "").write(w, r)
		return
	}
	var request struct {
		Message FCMMessage `json:"message"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		s.faultf("message: %v", err)
		FCMError(http.StatusBadRequest, "INVALID_ARGUMENT", "", "message").write(w, r)
		return
	}
	m := request.Message
	if (m.Token == "") == (m.FID == "") || m.Android == nil || !strings.HasSuffix(m.Android.TTL, "s") || len(body) > maxFCM+1024 {
		s.faultf("message: not one recipient, no TTL or too large (%d bytes)", len(body))
		FCMError(http.StatusBadRequest, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message").write(w, r)
		return
	}
	if reply := s.record(Push{Device: m.Token + m.FID, Header: r.Header, Proto: r.Proto, Body: body, Size: len(body), Key: m.Android.CollapseKey}); reply != nil {
		reply.write(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"name":"projects/%s/messages/%s"}`, fcmProject, rand.Text())
}

// FCMError is an answer in Google's form: the status, FCM's own code (may be empty)
// and the fields that are wrong.
func FCMError(code int, status, fcmCode string, fields ...string) *Reply {
	var details []any
	if fcmCode != "" {
		details = append(details, map[string]string{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": fcmCode})
	}
	if len(fields) > 0 {
		var violations []map[string]string
		for _, f := range fields {
			violations = append(violations, map[string]string{"field": f, "description": "Invalid value"})
		}
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
	}
	body, err := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": "An error.", "status": status, "details": details}})
	if err != nil {
		panic(err) // strings and numbers
	}
	return &Reply{Status: code, Header: map[string]string{"Content-Type": "application/json"}, Body: string(body)}
}
