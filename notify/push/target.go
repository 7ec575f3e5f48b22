package push

import (
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/url"
	"time"
)

// Provider names a kind of push service.
type Provider string

// The providers. UnifiedPush distributors are reached by WebPush: the same
// standards under another name.
const (
	WebPush Provider = "webpush"
	FCM     Provider = "fcm"
	APNs    Provider = "apns"
)

// TokenKind says what the token of an FCM target is. Google deprecated
// registration tokens in 2026 in favour of installation ids; both are in use.
type TokenKind string

// The kinds of FCM tokens. The empty kind means FCMToken.
const (
	FCMToken TokenKind = "fcm_token"
	FCMFID   TokenKind = "fcm_fid"
)

// Environment is the APNs service that gave a token out; the other one refuses it.
type Environment string

// The environments of APNs. The empty one means Production.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// Target is where a device is reached: what its app registered.
type Target struct {
	// Provider says which of the fields below count.
	Provider Provider

	// Endpoint is the URL that a Web Push subscription was given. Who knows it can
	// send to it, so it is as secret as a token.
	Endpoint string
	// P256dh is the subscription's public key: a point of P-256, 65 bytes,
	// uncompressed.
	P256dh []byte
	// Auth is the subscription's secret of 16 bytes.
	Auth []byte

	// Token is the device token of FCM or APNs (there in hexadecimal).
	Token string
	// TokenKind says which of its two identifiers FCM gave.
	TokenKind TokenKind
	// Platform is the system of an FCM device: "android", "ios", "web". Empty: unknown.
	// What is wrong with the iOS part of a project pauses no other part.
	Platform string
	// App is the APNs topic, the bundle id of the app. Empty: the sender's own.
	App string
	// Environment is the APNs service that gave out the token.
	Environment Environment

	// Registered is when the app last registered this target. APNs tells since when
	// a token is dead; one that was registered later is not pruned.
	Registered time.Time
}

// Address returns the endpoint or the token: what a compare-and-delete compares, so
// that a registration that came meanwhile survives. It is a secret.
func (t Target) Address() string {
	if t.Provider == WebPush {
		return t.Endpoint
	}
	return t.Token
}

// Origin returns scheme and host of a Web Push endpoint, which name the push
// service and not the device. It is empty for other providers.
func (t Target) Origin() string {
	u, err := url.Parse(t.Endpoint)
	if err != nil || t.Endpoint == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// ScopeKey names what an Outcome of this scope is about, for the keys of breakers
// and pauses. It holds no secret: a device is named by a hash.
func (t Target) ScopeKey(s Scope) string {
	key := string(t.Provider)
	switch s {
	case ScopeProvider:
	case ScopeOrigin:
		switch t.Provider {
		case WebPush:
			key += " " + t.Origin()
		case APNs:
			key += " " + t.App + " " + string(t.Environment)
		case FCM:
			key += " " + t.Platform
		}
	default:
		sum := sha256.Sum256([]byte(t.Address()))
		key += " #" + base64.RawURLEncoding.EncodeToString(sum[:12])
	}
	return key
}

// LogValue implements slog.LogValuer: a target is logged without its secrets.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.ScopeKey(ScopeDevice)) }

// String returns what may be logged, for whoever formats a target by mistake.
func (t Target) String() string { return t.ScopeKey(ScopeDevice) }

// GoString is String: %#v must not show the secrets either.
func (t Target) GoString() string { return t.String() }
