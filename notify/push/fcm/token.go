package fcm

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

const (
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// tokenMargin is how long before its end an access token is replaced.
	tokenMargin = 5 * time.Minute
	// renewAge is how old an access token must be before a refusal has it replaced.
	renewAge = time.Minute
	// failFor is how long a failure of the token service stands for those who waited
	// for the same answer.
	failFor = 2 * time.Second
)

// tokens keeps the access token of the service account. It is not x/oauth2's
// ReuseTokenSource: that one holds a lock, without deadline, while it asks, so that
// a token service that hangs would hold up every push one after the other.
type tokens struct {
	config jwt.Config
	client *http.Client
	now    func() time.Time

	// lock is a mutex that can be waited for with a context.
	lock    chan struct{}
	access  string
	made    time.Time
	expires time.Time
	failed  time.Time
	failure push.Outcome
}

func newTokens(a account, client *http.Client, now func() time.Time) *tokens {
	return &tokens{
		config: jwt.Config{
			Email: a.ClientEmail, PrivateKey: []byte(a.PrivateKey), PrivateKeyID: a.PrivateKeyID,
			TokenURL: a.TokenURI, Scopes: []string{scope},
		},
		client: client, now: now, lock: make(chan struct{}, 1),
	}
}

// get returns an access token other than refused, or why there is none.
// A token that is younger than a minute is not replaced: ok is false and the
// outcome a Pause.
func (t *tokens) get(ctx context.Context, refused string) (access string, out push.Outcome, ok bool) {
	select {
	case t.lock <- struct{}{}:
		defer func() { <-t.lock }()
	case <-ctx.Done():
		return "", push.Outcome{Action: push.Retry, Reason: push.Timeout, Scope: push.ScopeProvider}, false
	}
	now := t.now()
	if t.access != "" && t.access != refused && now.Before(t.expires) {
		return t.access, push.Outcome{}, true
	}
	if refused != "" && t.access == refused && now.Sub(t.made) < renewAge {
		return "", push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider}, false
	}
	if !t.failed.IsZero() && now.Sub(t.failed) < failFor {
		return "", t.failure, false
	}
	access, life, out, ok := t.fetch(ctx)
	if !ok {
		if out.Reason != push.Canceled {
			t.failed, t.failure = now, out
		}
		return "", out, false
	}
	t.access, t.made, t.expires, t.failed = access, now, now.Add(life-tokenMargin), time.Time{}
	return access, push.Outcome{}, true
}

// fetch signs an assertion and exchanges it.
func (t *tokens) fetch(ctx context.Context) (access string, life time.Duration, out push.Outcome, ok bool) {
	// x/oauth2/jwt asks without a context and wraps errors to text.
	transport := &bound{ctx: ctx, next: t.client.Transport}
	client := &http.Client{Transport: transport, CheckRedirect: t.client.CheckRedirect}
	began := time.Now()
	token, err := t.config.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client)).Token()
	var refused *oauth2.RetrieveError
	switch {
	case err == nil && token.AccessToken != "":
		return token.AccessToken, max(token.Expiry.Sub(began), 0), push.Outcome{}, true
	case errors.As(err, &refused):
		status := refused.Response.StatusCode
		out = push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, Status: status, RetryAfter: wire.RetryAfter(refused.Response.Header, t.now())}
		if status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
			out.Action, out.Reason = push.Pause, push.Unauthorized
		}
	case transport.err != nil:
		out = wire.Failure(ctx, transport.err, push.ScopeProvider)
	case transport.answered:
		// An answer that is no token: a proxy's page.
		out = push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider}
	default:
		// Nothing was asked: the private key cannot sign.
		out = push.Outcome{Action: push.Pause, Reason: push.Misconfigured, Scope: push.ScopeProvider}
	}
	return "", 0, out, false
}

// bound gives every request a context and keeps what came of the last one.
type bound struct {
	ctx      context.Context //nolint:containedctx // x/oauth2/jwt takes a client and no context
	next     http.RoundTripper
	err      error
	answered bool
}

// RoundTrip implements http.RoundTripper.
func (b *bound) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req.WithContext(b.ctx))
	b.err, b.answered = err, err == nil
	return resp, err
}
