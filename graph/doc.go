// Package graph is the write side of who follows, blocks and mutes whom: a command
// becomes a fact on the log.
//
// It serves GraphService and keeps no state. Its commands append UserFollowed and
// UserUnfollowed under the followee's key, UserBlocked, UserUnblocked, UserMuted and
// UserUnmuted under the actor's. Its two lists are read from the store of whoever
// projects the log, behind the interface of [Deps].
//
// # Promises
//
//   - A command is answered when the log has its fact (acks=all), and nothing of a
//     refused command reaches the log.
//   - Commands of one follower about one followee take effect in the order in which
//     they were answered.
//   - Commands are idempotent: each states how things are from here on, so a repeat
//     after a failure of unknown outcome changes nothing, and no key is needed.
//   - Nothing is checked against the present state: unfollowing someone who was not
//     followed is a fact like any other, and consumers make nothing of it.
//   - A logged UserFollowed names its notification level: the default is a setting of
//     the moment of the command, so that a rebuilt projection equals the first one.
//
// # When something fails
//
// Log down: commands fail with UNAVAILABLE after PublishTimeout; the lists go on.
// Store of the lists down: the lists fail with UNAVAILABLE; commands go on.
package graph
