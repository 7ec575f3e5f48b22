package webpush

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

// outcome says what an answer means; the table of the package comment.
func (s *Sender) outcome(a wire.Answer, asked time.Duration) push.Outcome {
	out := push.Outcome{Status: a.Status, ProviderID: a.Header.Get("Location")}
	wait := wire.RetryAfter(a.Header, s.now())
	switch status := a.Status; {
	case status >= 200 && status < 300:
		out.Action, out.Reason = push.OK, push.Delivered
		if seconds, err := strconv.ParseInt(a.Header.Get("TTL"), 10, 32); err == nil {
			if kept := time.Duration(seconds) * time.Second; kept < asked {
				out.TTL = kept
			}
		}
	case status >= 300 && status < 400:
		// Following would lead around the guard.
		out.Action, out.Reason, out.ProviderID = push.Drop, push.Redirected, ""
	case status == http.StatusNotFound, status == http.StatusGone:
		out.Action, out.Reason = push.Prune, push.Gone
	case status == http.StatusRequestEntityTooLarge:
		out.Action, out.Reason = push.Drop, push.TooLarge
	case status == http.StatusTooManyRequests, status == http.StatusNotAcceptable:
		out.Action, out.Reason, out.RetryAfter = push.Retry, push.RateLimited, wait
	case refused(a):
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.Unauthorized, push.ScopeOrigin, push.Drop
	case status == http.StatusRequestTimeout, status >= 500:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Retry, push.Unavailable, push.ScopeOrigin, wait
	default:
		out.Action, out.Reason, out.Strike = push.Drop, push.Rejected, true
	}
	return out
}

// refused says whether an answer is about our key, token or subject. Google's
// service says it with a 400.
func refused(a wire.Answer) bool {
	return a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden ||
		a.Status == http.StatusBadRequest && bytes.Contains(a.Body, []byte("UnauthorizedRegistration"))
}

// failure says what it means that there was no answer.
func failure(ctx context.Context, err error) push.Outcome {
	if errors.Is(err, errBlocked) {
		return push.Outcome{Action: push.Drop, Reason: push.Blocked, Strike: true}
	}
	return wire.Failure(ctx, err, push.ScopeOrigin)
}
