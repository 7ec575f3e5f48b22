package apns

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

// pauseFor is how long a wrong configuration rests before it is tried again.
const pauseFor = time.Minute

// said is an answer's body, which may be anything.
type said struct {
	Reason string `json:"reason"`
	// Timestamp is since when a token is dead, in milliseconds.
	Timestamp int64 `json:"timestamp"`
}

func parse(body []byte) said {
	var s said
	if json.Unmarshal(body, &s) != nil {
		return said{} // the status decides
	}
	return s
}

// outcome says what an answer means; the table of the package comment.
func outcome(a wire.Answer, s said, to push.Target, now time.Time) push.Outcome {
	out := push.Outcome{Status: a.Status, ProviderID: a.Header.Get("Apns-Id"), Code: word(s.Reason)}
	pause := func(reason push.Reason, scope push.Scope) {
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Pause, reason, scope, pauseFor
	}
	switch status := a.Status; {
	case status == http.StatusOK:
		out.Action, out.Reason = push.OK, push.Delivered
	case status == http.StatusGone:
		gone(&out, s, to)
	case status == http.StatusBadRequest:
		refused(&out, s, pause)
	case status == http.StatusForbidden:
		pause(push.Unauthorized, push.ScopeProvider)
	case status == http.StatusRequestEntityTooLarge:
		out.Action, out.Reason = push.Drop, push.TooLarge
	case status == http.StatusTooManyRequests && s.Reason == "TooManyProviderTokenUpdates":
		pause(push.Unauthorized, push.ScopeProvider)
	case status == http.StatusTooManyRequests:
		out.Action, out.Reason, out.RetryAfter = push.Retry, push.RateLimited, wire.RetryAfter(a.Header, now)
	case status == http.StatusRequestTimeout, status >= 500:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Retry, push.Unavailable, push.ScopeOrigin, wire.RetryAfter(a.Header, now)
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status >= 300 && status < 400:
		pause(push.Misconfigured, push.ScopeProvider)
	default:
		out.Action, out.Reason = push.Drop, push.Rejected
	}
	return out
}

// gone prunes a token that died after it was registered. One that was registered
// since lives: the answer is older than the registration.
func gone(out *push.Outcome, s said, to push.Target) {
	died := time.UnixMilli(s.Timestamp)
	switch {
	case s.Timestamp == 0:
		// Not Apple's answer, or not all of it.
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.Gone, push.ScopeOrigin, push.Prune
	case died.Before(to.Registered.Truncate(time.Millisecond)):
		out.Action, out.Reason = push.Retry, push.Stale
	default:
		out.Action, out.Reason = push.Prune, push.Gone
	}
}

// refused tells what of a request with status 400 was wrong.
func refused(out *push.Outcome, s said, pause func(push.Reason, push.Scope)) {
	switch s.Reason {
	case "BadDeviceToken":
		// Also what the other environment's tokens get.
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.BadToken, push.ScopeOrigin, push.Prune
	case "DeviceTokenNotForTopic":
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.WrongApp, push.ScopeOrigin, push.Prune
	case "TopicDisallowed", "BadTopic", "MissingTopic":
		pause(push.Misconfigured, push.ScopeOrigin)
	default:
		out.Action, out.Reason = push.Drop, push.Rejected
	}
}

// word returns a provider's code if it is one: what comes from outside is logged.
func word(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }) {
		return ""
	}
	return code
}
