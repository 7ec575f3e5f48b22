package fcm

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"activityfeed/notify/push"
	"activityfeed/notify/push/internal/wire"
)

const (
	codeUnregistered = "UNREGISTERED"
	codeMismatch     = "SENDER_ID_MISMATCH"
	codeInvalid      = "INVALID_ARGUMENT"
	codeThirdParty   = "THIRD_PARTY_AUTH_ERROR"

	// quotaWait is FCM's own default where it sends no Retry-After.
	quotaWait = time.Minute
	// pauseFor is how long a wrong configuration rests before it is tried again.
	pauseFor = time.Minute
)

// said is what is used of an answer's body, which may be anything.
type said struct {
	Name  string `json:"name"`
	Error struct {
		Status  string `json:"status"`
		Details []struct {
			ErrorCode       string                   `json:"errorCode"`
			FieldViolations []struct{ Field string } `json:"fieldViolations"`
			Violations      []struct{ Subject string }
		} `json:"details"`
	} `json:"error"`
}

func parse(body []byte) said {
	var s said
	if json.Unmarshal(body, &s) != nil {
		return said{} // the status decides
	}
	return s
}

// code returns FCM's own error code, or nothing.
func (s said) code() string {
	for _, d := range s.Error.Details {
		if d.ErrorCode != "" {
			return d.ErrorCode
		}
	}
	return ""
}

// otherField says whether a field is named as wrong that is not the device's.
func (s said) otherField() bool {
	for _, d := range s.Error.Details {
		for _, v := range d.FieldViolations {
			if v.Field != "message.token" && v.Field != "message.fid" {
				return true
			}
		}
	}
	return false
}

// ofDevice says whether a quota is that of one device.
func (s said) ofDevice() bool {
	for _, d := range s.Error.Details {
		for _, v := range d.Violations {
			if strings.HasPrefix(v.Subject, "device") {
				return true
			}
		}
	}
	return false
}

// outcome says what an answer means; the table of the package comment.
func outcome(a wire.Answer, s said, to push.Target, now time.Time) push.Outcome {
	out := push.Outcome{Status: a.Status, ProviderID: s.Name, Code: word(s.code())}
	if out.Code == "" {
		out.Code = word(s.Error.Status)
	}
	wait := wire.RetryAfter(a.Header, now)
	code := s.code()
	switch status := a.Status; {
	case status == http.StatusOK:
		out.Action, out.Reason = push.OK, push.Delivered
	case status == http.StatusNotFound && code == codeUnregistered:
		out.Action, out.Reason = push.Prune, push.Gone
	case status == http.StatusForbidden && code == codeMismatch:
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.WrongApp, push.ScopeProvider, push.Prune
	case status == http.StatusBadRequest && code == codeInvalid && !s.otherField():
		out.Action, out.Reason, out.Scope, out.Guilty = push.Suspect, push.BadToken, push.ScopeProvider, push.Prune
	case status == http.StatusRequestEntityTooLarge:
		out.Action, out.Reason = push.Drop, push.TooLarge
	case status == http.StatusTooManyRequests:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Retry, push.RateLimited, push.ScopeProvider, wait
		if s.ofDevice() {
			out.Scope = push.ScopeDevice
		}
		if wait == 0 {
			out.RetryAfter = quotaWait
		}
	case status == http.StatusUnauthorized && code == codeThirdParty:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Pause, push.Misconfigured, push.ScopeOrigin, pauseFor
		if to.Platform == "" {
			// It may be an Android device's neighbour: nobody else is held back.
			out.Scope = push.ScopeDevice
		}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Pause, push.Unauthorized, push.ScopeProvider, pauseFor
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status >= 300 && status < 400:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Pause, push.Misconfigured, push.ScopeProvider, pauseFor
	case status == http.StatusRequestTimeout, status >= 500:
		out.Action, out.Reason, out.Scope, out.RetryAfter = push.Retry, push.Unavailable, push.ScopeProvider, wait
	default:
		out.Action, out.Reason = push.Drop, push.Rejected
	}
	return out
}

// word returns a provider's code if it is one: what comes from outside is logged.
func word(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' }) {
		return ""
	}
	return code
}
