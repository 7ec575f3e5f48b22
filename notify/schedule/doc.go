// Package schedule keeps jobs in Redis until they are due and hands each to one
// worker at a time. It is where pushes wait: for Retry-After, for the end of a
// back-off or of quiet hours, for the rest of a burst.
//
// # Promises
//
//   - No job is lost: it is in Redis from Add until it is settled as done. A worker
//     that dies leaves a lease that runs out; then the job is due again.
//   - None is early, by the clock of the host that claims it.
//   - One worker at a time has a job, as long as it settles within the lease. A
//     worker that comes late settles nothing: its token is another one.
//   - A job has an id, and exists once. What is added to it again is left out, or
//     joins as a further item, also while a worker has it: then the job goes on
//     with what joined.
//
// A job may be done twice: when its worker dies between the deed and the settling.
// What the deed means has to bear that.
//
// # Storage
//
// A queue is a number of shards, each with a hash tag of its own, so that the queue
// spreads over a cluster and every script touches one node: a ZSET of ids by the
// time they are due, a HASH of their bodies, a HASH of the leases. A claim moves a
// job in the ZSET to the end of its lease, so an expired lease needs nobody to
// collect it.
package schedule
