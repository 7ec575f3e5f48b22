// Package rpc is the gRPC server of every role: it owns the port, what happens
// around each call, and the one place where an error becomes a status. It knows
// no domain; domains register on [Server.Registrar].
//
// # Around each call
//
// Outside in, the same for unary calls and streams:
//
//	recovery    a panic becomes INTERNAL and a log line with the stack; outermost,
//	            so that no fault of the other layers ends the process
//	observe     metrics and the request log; sees the final status of everything below
//	deadline    unary: CallTimeout for calls that come without a deadline;
//	            streams: a context that ends when the server shuts down
//	status      error to status; over the two below, so that they return plain errors
//	authorize   who acts as whom; before validation, so that a stranger learns
//	            nothing about the shape of requests
//	validate    protovalidate; innermost, so that a handler never sees a request
//	            that the contract forbids
//
// On streams the last two run on each received message.
//
// # Where authentication plugs in
//
// Every request of this API names its acting user (GetUserId). [Config].Authorize
// is asked about each: it gets the call's context, and with it the metadata
// (authorization: Bearer ...) and the TLS peer, the full method and the acting
// user. A step that adds tokens sets this one function: verify the token, compare
// its subject with the acting user, and return nil or a status
// (codes.Unauthenticated, codes.PermissionDenied). Nothing else in this package or
// in a domain changes. With no Authorize everyone may act as anyone. With one, a
// request that has no acting user is refused, so a new method cannot forget to
// ask; the standard health and reflection services are exempt, since probes and
// tools carry no user.
//
// # What a caller sees of an error
//
// The kind that a fault carries (internal/fault) decides; other errors are
// INTERNAL with a fixed text. The text of a driver goes to the log alone.
package rpc
