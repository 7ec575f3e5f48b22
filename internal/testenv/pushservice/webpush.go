package pushservice

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxWebPush is what a push service takes, RFC 8030 section 7.2.
const maxWebPush = 4096

var (
	topicForm   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	urgencyForm = regexp.MustCompile(`^(very-low|low|normal|high)$`)
)

// WebPush is a push service of browsers.
type WebPush struct {
	server

	subscriptions sync.Map // by path: *Subscription
	count         int
	limit         int
}

// Subscription is what a browser gets from pushManager.subscribe, and its keys.
type Subscription struct {
	Endpoint string
	// P256dh is the public key, Auth the secret.
	P256dh, Auth []byte

	private *ecdh.PrivateKey
	mu      sync.Mutex
	// key is the application server's, which the first message binds.
	key string
}

// StartWebPush starts a service.
func StartWebPush(opts Options) (*WebPush, error) {
	s := &WebPush{server: server{opts: opts}, limit: maxWebPush}
	s.handler = http.HandlerFunc(s.push)
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// Limit sets how many bytes a message may have; other services than browsers' have
// other limits.
func (s *WebPush) Limit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
}

// Subscribe makes a device with keys of its own.
func (s *WebPush) Subscribe() (*Subscription, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	auth := make([]byte, 16)
	if _, err := rand.Read(auth); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.count++
	path := fmt.Sprintf("/push/%d-%s", s.count, rand.Text())
	s.mu.Unlock()
	sub := &Subscription{Endpoint: s.URL() + path, P256dh: private.PublicKey().Bytes(), Auth: auth, private: private}
	s.subscriptions.Store(path, sub)
	return sub, nil
}

// Unsubscribe makes a subscription's endpoint answer 410.
func (s *WebPush) Unsubscribe(sub *Subscription) {
	s.subscriptions.Delete(strings.TrimPrefix(sub.Endpoint, s.URL()))
}

// Decrypt reads a message's content with the subscription's keys.
func (sub *Subscription) Decrypt(body []byte) (plaintext []byte, padding int, err error) {
	return Decrypt(body, sub.private, sub.Auth)
}

func (s *WebPush) push(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if s.opts.Blind {
		w.WriteHeader(http.StatusCreated)
		return
	}
	s.mu.Lock()
	limit := s.limit
	s.mu.Unlock()
	found, ok := s.subscriptions.Load(r.URL.Path)
	if !ok {
		w.WriteHeader(http.StatusGone)
		return
	}
	sub, _ := found.(*Subscription)
	if len(body) > limit {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if err := s.authorized(sub, r.Header.Get("Authorization")); err != nil {
		s.faultf("authorization: %v", err)
		http.Error(w, "BadJwtToken", http.StatusForbidden)
		return
	}
	text, padding, err := sub.Decrypt(body)
	if err == nil {
		err = wellFormed(r)
	}
	if err != nil {
		s.faultf("message: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Location", s.URL()+"/message/"+rand.Text())
	w.Header().Set("TTL", r.Header.Get("TTL"))
	r.Header.Set("X-Padding", strconv.Itoa(padding))
	if reply := s.record(Push{Device: r.URL.Path, Header: r.Header, Proto: r.Proto, Body: text, Size: len(body), Key: r.Header.Get("Topic")}); reply != nil {
		reply.write(w, r)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// wellFormed checks what RFC 8030 asks of the headers.
func wellFormed(r *http.Request) error {
	if r.Method != http.MethodPost {
		return fmt.Errorf("method %s", r.Method)
	}
	if got := r.Header.Get("Content-Encoding"); got != "aes128gcm" {
		return fmt.Errorf("content encoding %q", got)
	}
	if ttl, err := strconv.Atoi(r.Header.Get("TTL")); err != nil || ttl < 0 {
		return fmt.Errorf("TTL %q", r.Header.Get("TTL"))
	}
	if topic := r.Header.Get("Topic"); topic != "" && !topicForm.MatchString(topic) {
		return fmt.Errorf("topic %q", topic)
	}
	if urgency := r.Header.Get("Urgency"); urgency != "" && !urgencyForm.MatchString(urgency) {
		return fmt.Errorf("urgency %q", urgency)
	}
	return nil
}

// authorized checks a VAPID header as RFC 8292 has it, as strictly as Apple does.
func (s *WebPush) authorized(sub *Subscription, header string) error {
	parameters, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return errors.New("the scheme is not vapid")
	}
	values := map[string]string{}
	for part := range strings.SplitSeq(parameters, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		values[name] = value
	}
	point, err := base64.RawURLEncoding.DecodeString(values["k"])
	if err != nil {
		return fmt.Errorf("k: %w", err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return fmt.Errorf("k: %w", err)
	}
	token, err := jwt.Parse(values["t"], func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(s.URL()), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.now))
	if err != nil {
		return fmt.Errorf("t: %w", err)
	}
	expires, err := token.Claims.GetExpirationTime()
	if err != nil || expires.Sub(s.now()) > 24*time.Hour {
		return fmt.Errorf("exp %v is more than 24 hours away", expires)
	}
	subject, err := token.Claims.GetSubject()
	if err != nil || strings.HasPrefix(subject, "mailto:mailto:") || !strings.HasPrefix(subject, "mailto:") && !strings.HasPrefix(subject, "https:") {
		return fmt.Errorf("sub %q", subject)
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.key == "" {
		sub.key = values["k"]
	}
	if sub.key != values["k"] {
		return errors.New("another application server's key")
	}
	return nil
}
