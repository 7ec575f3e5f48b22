// Package middleware holds the parts of which feed, analytics and notify build
// their failure policies. Each service stacks them itself, in this order, the
// first one outermost:
//
//	poison.Suspected      what is left: poison only if the neighbours succeed
//	Retry.Middleware      short retries in place, for blips
//	breaker.Middleware    an engine that is down is spared
//	poison.Permanent      undecodable, invalid, panicked: to poison at once
//	middleware.Recoverer  Watermill's: a panic becomes an error
//	handler
//
// What an error means is read from internal/fault:
//
//	Unavailable  an outage: never poison, however often; retried, then nacked
//	Permanent    poison on the first delivery
//	no kind      a bug: retried, nacked, poison after N deliveries while others succeed
//	cancelled    nothing happened: nacked, not counted
//
// A nacked message is redelivered by internal/kafka with growing backoff; the
// messages of other keys go on meanwhile. Only a message whose letter is durable
// in `<service>.poison` is acked without having been processed.
package middleware
