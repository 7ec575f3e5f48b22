// Package post is the write side of photos: a command becomes a fact on the log.
//
// It serves PostService and keeps nothing but what it needs to recognise a
// repeated command. It consumes the topic "activity" for that, and writes
// PhotoPosted and PhotoDeleted to it, under the author's key.
//
// # Promises
//
//   - A command is answered when the log has its fact (acks=all), and nothing of a
//     refused command reaches the log.
//   - The id of a post is its place in time: create_time is the id's millisecond.
//   - A failed publish is UNAVAILABLE. Without an idempotency key the caller cannot
//     know whether the photo was posted, and a retry may post it twice: clients that
//     retry send a key.
//   - Deleting appends a fact for the acting user and succeeds whatever the post is:
//     who may delete what is decided by the consumers, who know whose post it is.
//
// # Idempotency keys
//
// A key belongs to its user and lasts 24 hours (Config.IdempotencyWindow). A repeat
// with the same photo gets the first answer (same post id and create_time), also
// after the post was deleted; a repeat with another photo is INVALID_ARGUMENT on
// idempotency_key. No second fact is written in either case.
//
// The log itself is the store: facts carry their key, and [Post.Run] follows the log
// and keeps an index in memory, about 100 bytes a key. Before a keyed command is
// accepted, the index is brought to the end of the log as it was when the command
// came. So:
//
//   - On one node nothing is posted twice. Commands of one key wait for each other,
//     and the later one finds the fact of the earlier one.
//   - On several nodes a retry that follows its first try is always recognised, on
//     whatever node and after any restart: if the first try had been answered, its
//     fact is in the log before the retry reads to the end.
//   - What remains: two first tries of one key that are under way on two nodes at the
//     same time. Both may read before either writes, and both are posted. From then
//     on every node gives the answer of the one that is first in the log.
//   - A publish whose outcome is unknown (time-out) may still land some moments after
//     the answer. For two minutes the node therefore keeps the ids of the attempt: a
//     retry publishes the same event again, and if both land, consumers see one event
//     twice, which they must bear anyway. A retry on another node, or after a
//     restart, relies on the log alone: it is posted twice only if the lost write
//     lands after the retry has read to the end.
//
// # When something fails
//
// Log down: commands fail with UNAVAILABLE after PublishTimeout, and heal by
// themselves. Index behind the log (start, outage): keyed commands wait up to
// LookupTimeout, then fail with UNAVAILABLE; commands without a key go on.
package post
