// Package deliver brings what stands in the inboxes to people's devices.
//
//	Tell -> queue "tell": one job a person and group          (coalescing, quiet hours, rate limit)
//	     -> queue "webpush" | "fcm" | "apns": one job a push  (Retry-After, back-off, pause)
//	     -> push.Sender -> device
//
// The inbox row is written at once; only the push waits. All waiting is done by
// notify/schedule in Redis, never by a handler or a worker.
//
// # Promises
//
//   - Every device of a person who is told gets a push at least once, unless it is
//     too late, unwanted or read by then; whatever process dies on the way.
//   - All pushes of one group carry one collapse key, so a repeat replaces itself
//     on the device. A device is not told again of what it was told: a push that was
//     sent is remembered for a day, an event for as long as it may be pushed.
//   - Before a push is sent the inbox is read again: what was read, deleted or
//     blocked meanwhile is not told, and the text counts what is there now.
//   - A burst of one group within its window is one push that says how many.
//   - Nothing is sent in a person's quiet hours, and no more an hour than they want.
//     What waits is put together.
//   - A provider that hangs or fails delays only its own queue, and one origin of
//     Web Push takes at most three quarters of that.
//
// # What becomes of an outcome
//
//	OK                  done; the device has no strikes any more
//	Drop                done; counted against the device if it is a strike
//	Prune               done; the device is removed if it is still that registration
//	Retry               later: Retry-After or 2^n seconds with full jitter, at most 10
//	                    minutes, until the notification is too old; then a letter in
//	                    notify.poison, unless it was a rate limit
//	Pause               nothing is sent to the scope until the pause is over; the job
//	                    waits, its attempts uncounted
//
// Five failures in a row of an origin or a provider open its breaker: jobs wait
// untried, one probes. Pauses and breakers are of this process: others find out by
// themselves, and a restart forgets.
package deliver
