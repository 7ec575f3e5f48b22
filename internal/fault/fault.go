// Package fault gives an error its meaning, so that one place can act on it:
// internal/rpc turns the kind into a gRPC status, the domains' middleware into
// retry, poison or ack. An error without a kind is [Internal]: a bug of ours.
//
// A fault survives wrapping with %w; the outermost fault of a chain counts.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what an error means to whoever has to act on it.
type Kind int

// The kinds of errors.
const (
	// Internal is everything that carries no kind: a bug, to be logged and not shown.
	Internal Kind = iota
	// InvalidArgument: the request is wrong and stays wrong; Field names the culprit.
	InvalidArgument
	// NotFound: what was asked for does not exist, or is hidden from who asks.
	NotFound
	// Unavailable: an engine (log, Redis, ClickHouse, provider) did not do its
	// part. The same call may succeed later; it is never a reason for poison.
	Unavailable
	// Permanent: this event can never be processed; it goes to poison at once.
	Permanent
)

// Error is an error with a meaning.
type Error struct {
	// Kind is what the error means.
	Kind Kind
	// Field is the request field at fault, for InvalidArgument.
	Field string
	// Reason is a short fixed word for metrics and poison records, for Permanent:
	// "undecodable", "invalid".
	Reason string
	// RetryAfter is when the same call is worth another try, for Unavailable; 0 means
	// that nobody knows.
	RetryAfter time.Duration
	// Message may be shown to the caller; it holds no driver's text. Empty, for
	// Unavailable: the caller hears that the call cannot be served now.
	Message string
	// Op is what was tried when it failed, for the log only. May be empty.
	Op string
	// Err is the cause, for the log only. May be nil.
	Err error
}

// Error returns what was tried, the message and the cause.
func (e *Error) Error() string {
	var parts []string
	for _, part := range []string{e.Op, e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Invalid says that a request field is wrong.
func Invalid(field, format string, args ...any) error {
	return &Error{Kind: InvalidArgument, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Missing says that something does not exist, or is hidden from who asks.
func Missing(format string, args ...any) error {
	return &Error{Kind: NotFound, Message: fmt.Sprintf(format, args...)}
}

// Outage says that an engine failed, in words for the caller: `fault.Outage("the log did
// not accept the photo", err)`. A nil err gives nil.
func Outage(message string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Unavailable, Message: message, Err: err}
}

// OutageAt says that an engine failed at op, which the log alone tells:
// `fault.OutageAt("read feed of ann", err)`. A nil err gives nil.
func OutageAt(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Unavailable, Op: op, Err: err}
}

// Busy says that there is more to do than can be done while a caller waits, and when
// it is worth asking again: `fault.Busy(after, "build feed of %s", user)`.
func Busy(after time.Duration, format string, args ...any) error {
	return &Error{Kind: Unavailable, RetryAfter: after, Message: fmt.Sprintf(format, args...)}
}

// Poison says that an event can never be processed, and why.
func Poison(reason string, err error) error {
	return &Error{Kind: Permanent, Reason: reason, Message: reason, Err: err}
}

// KindOf returns the kind that err carries, Internal if none.
func KindOf(err error) Kind {
	if f := Of(err); f != nil {
		return f.Kind
	}
	return Internal
}

// Of returns the outermost fault of err's chain, or nil.
func Of(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}
