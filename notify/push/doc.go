// Package push is the language between those who decide that a device is told of
// something and those who speak its push service: a [Target], a [Message], and the
// [Outcome] of one attempt. The packages below it (webpush, fcm, apns) each are a
// [Sender] of one provider.
//
// # Promises of a Sender
//
//   - Send is one attempt: it waits for nothing but the answer, never sleeps and has
//     a deadline of its own. When to try again is the caller's, told by the Outcome.
//   - Delivery is at least once: an attempt that ended in a timeout may have
//     arrived. All attempts of a message carry the same collapse key, so that a
//     repeat replaces itself on the device.
//   - Nothing is pruned because of what may be our own fault: not on 401, 403, 5xx,
//     nor on a broken connection. Where an answer may mean the device as well as our
//     configuration, the Outcome is [Suspect] and a [Judge] looks at the neighbours.
//   - No message is lost for its size: its body is shortened until it fits, then
//     its data and its title.
//   - Tokens, endpoints and keys are in no error, reason or log line.
//
// The answers of the providers and what they mean stand in the packages below, with
// a test for each.
package push
