// Package device keeps the devices that people are told on: where each is reached,
// and what came of the last push to it.
//
// A device is its address: its id is a hash of provider and endpoint or token, so
// one address is one device whoever registers it. The registration is a fact on the
// topic "account", keyed by that id, and what is in Redis is a projection of it:
// who throws Redis away does not throw the devices of people away. They are not on
// the topic "activity", which everybody reads and nothing is taken from: an address
// is a secret of its owner, and the compacted topic forgets it when it is removed.
// It stands there in plain, as the captions of photos do: it is of no use without
// the server's own keys, which are not in the log.
//
// # Promises
//
//   - A device is told for one person: the one who registered it last, by the order
//     of the log. Owner of the device is the authority; see [Store.Get].
//   - A removal spares a registration that is newer than what it was decided upon
//     (compare-and-delete by version).
//   - After three strikes in a row nothing is sent to a device until it registers
//     again: the push service refuses, and says nothing that would let us prune it.
package device
