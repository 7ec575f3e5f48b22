package push

import "time"

// Action is what the caller of a Sender does next.
type Action int

// The actions.
const (
	// OK: the push service has the message. The job is done.
	OK Action = iota + 1
	// Drop: this message can never be delivered. The job is done; the device stays.
	// With Outcome.Strike it counts against the device: three in a row make it a
	// suspect, which is shown to its owner and not sent to until it registers again.
	Drop
	// Prune: the device is gone. Its registration is removed if its address is still
	// the one that was sent to (Target.Address). No error in any metric.
	Prune
	// Retry: this attempt failed. The job is scheduled again after the longer of
	// Outcome.RetryAfter and the caller's own back-off (doubling with full jitter, at
	// most 10 minutes), until Message.Expires; then it is dropped as expired. The
	// failure counts for the circuit breaker of Outcome.Scope.
	Retry
	// Pause: our configuration or the provider's is wrong. Nothing is sent to
	// Outcome.Scope for RetryAfter and an operator is told; all jobs of the scope
	// wait with their attempts uncounted, no device is removed. After the pause all
	// that is due goes on: a single trial might meet the one bad device.
	Pause
	// Suspect: the device is wrong, or we are. A [Judge] turns it into one of the
	// others; without one it is treated as Retry.
	Suspect
)

// String returns the action as a metric's label.
func (a Action) String() string {
	switch a {
	case OK:
		return "ok"
	case Drop:
		return "drop"
	case Prune:
		return "prune"
	case Retry:
		return "retry"
	case Pause:
		return "pause"
	case Suspect:
		return "suspect"
	default:
		return "unknown"
	}
}

// Scope is what an Outcome is about; Target.ScopeKey names it.
type Scope int

// The scopes. The zero value is the device.
const (
	// ScopeDevice is the one device.
	ScopeDevice Scope = iota
	// ScopeOrigin is one push service: the origin of Web Push endpoints, the app and
	// environment of APNs.
	ScopeOrigin
	// ScopeProvider is everything that goes through this Sender.
	ScopeProvider
)

// String returns the scope as a metric's label.
func (s Scope) String() string {
	switch s {
	case ScopeOrigin:
		return "origin"
	case ScopeProvider:
		return "provider"
	default:
		return "device"
	}
}

// Reason says why, in a closed vocabulary: it is a metric's label.
type Reason string

// The reasons.
const (
	Delivered     Reason = "delivered"      // the push service has it
	Gone          Reason = "gone"           // the subscription or token is dead
	Stale         Reason = "stale"          // dead before it was registered again: tried again
	BadToken      Reason = "bad_token"      // not a token of this service or environment
	WrongApp      Reason = "wrong_app"      // a token of another app or project
	TooLarge      Reason = "too_large"      // refused for its size, even at its smallest
	RateLimited   Reason = "rate_limited"   // too many, for this device or at all
	Unauthorized  Reason = "unauthorized"   // our keys or tokens are refused
	Misconfigured Reason = "misconfigured"  // our settings are refused
	Rejected      Reason = "rejected"       // the request is refused
	Redirected    Reason = "redirected"     // redirects are not followed
	Unavailable   Reason = "unavailable"    // the service has a problem
	Timeout       Reason = "timeout"        // no answer in time; it may have arrived
	Network       Reason = "network"        // no connection, or it broke
	Blocked       Reason = "blocked"        // the endpoint leads where we do not go
	InvalidTarget Reason = "invalid_target" // the registration is unusable
	Expired       Reason = "expired"        // too late to tell
	NoProvider    Reason = "no_provider"    // nothing sends to this provider here
	Unsupported   Reason = "unsupported"    // the provider has no such kind of message
	Canceled      Reason = "canceled"       // we are stopping
)

// Outcome is the end of one attempt.
type Outcome struct {
	// Action is what to do next.
	Action Action
	// Reason says why.
	Reason Reason
	// Scope is what failed, for Retry, Pause and Suspect.
	Scope Scope
	// RetryAfter is how long to wait at least, for Retry, Pause and Suspect; 0
	// leaves it to the caller.
	RetryAfter time.Duration
	// Strike says that a Drop counts against the device.
	Strike bool
	// Guilty is what a Suspect becomes if its neighbours succeed: Prune or Drop.
	Guilty Action
	// Status is the HTTP status; 0 without an answer.
	Status int
	// Code is the provider's own word for the reason ("BadDeviceToken"), letters
	// only, or the class of a network error. It is for logs and the device's owner,
	// not for metrics.
	Code string
	// ProviderID is the push service's name for the message (Location, apns-id, FCM's
	// name), for support requests. It may be empty.
	ProviderID string
	// TTL is how long the push service keeps the message where it said so, which may
	// be less than was asked.
	TTL time.Duration
}

// Done says whether the job of the message is finished.
func (o Outcome) Done() bool { return o.Action == OK || o.Action == Drop || o.Action == Prune }
