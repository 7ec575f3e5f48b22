// Package seen is the write side of what a person has seen: a mark becomes a fact
// on the log.
//
// It has no service of its own. Marks come with the services of those who show
// things (FeedService.MarkSeen), because their answer says what is left; they hand
// the mark to this package behind an interface, and learn of it from the log like
// everybody else. It appends UserSawFeed under the user's key and keeps no state.
//
// # Why marks are facts
//
// A read position is said by a person and by nothing else on the log. If it lived in
// Redis alone, a lost Redis would show everybody's badge at "99+", and Redis would
// hold what cannot be rebuilt. It costs a record of about 250 bytes a mark; marks
// that move nothing are not written, so a person has at most one for each time that
// they look at something new.
//
// # Promises
//
//   - A mark is answered when the log has its fact (acks=all), and nothing of a
//     refused mark reaches the log.
//   - Marks are idempotent and need no order: the newest place counts. A repeat after
//     a failure of unknown outcome changes nothing.
//
// # When something fails
//
// Log down: marks fail with UNAVAILABLE after PublishTimeout.
package seen
