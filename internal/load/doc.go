// Package load is the engine of `activityfeed load`: it plays a social graph and
// the activity of its people through the public gRPC API, as fast as the server
// takes it.
//
// A graph is an edge list ([Read], [ReadFile]). From it, a [Config] and its seed
// follows one plan, always the same: who follows whom, who posts what, what is
// deleted, unfollowed, blocked. [Run] sends the plan with many workers. Commands
// of one partition key (the followee of a follow, the author of a post, the actor
// of a block) go out one after the other, as they stand in the plan: so the log
// has them in that order.
//
// A run survives the server: what fails because it is away is repeated until it
// is back. A post carries the idempotency key load/<seed>/<n>, so a repeat, or a
// second run of the same plan, posts nothing twice. Graph commands have no such
// key; repeated, they may stand in the log twice and still mean the same.
//
// What [Result] counts is what was answered. After a crash of the server the log
// may hold more: count there when it matters (internal/audit does).
package load
