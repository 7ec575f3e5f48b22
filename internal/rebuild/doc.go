// Package rebuild is the engine of `activityfeed rebuild`, and of the repair of
// `activityfeed audit`: it makes projections anew from the log while they serve.
//
// It reads the log twice, a partition after the other, up to the end that the log
// had at the beginning. The first reading is folded in memory to what holds in the
// end; that is written, then the second reading brings what is too large to keep,
// the posts. What comes later than that end is the consumers', who run all the
// while and are not touched: the rebuild joins no group and moves no offset. Both
// write the same way, by versions and tombstones, so it does not matter who comes
// first.
//
// The other ways, and why not:
//
//   - To rewind the consumer group plays history again over what is served: follows
//     that ended and posts that were deleted would show for as long as it takes,
//     and new posts would wait behind all old ones.
//   - To build a second generation beside the first and switch needs twice the
//     memory, a second group of consumers, and a moment at which every process
//     changes over.
//
// Inboxes depend on what held at the time of each fact, so they are not folded but
// played, see [RunInboxes]: what people set, then all blocks and deletes, then each
// partition.
//
// Where the log has forgotten its beginning, a History is read before each reading of a
// partition: the events that ClickHouse keeps, in the log's order. Then comes all that
// the log still has, not only what the history lacks: a history may have holes below
// its newest event, and what comes twice changes nothing.
//
// Refill is the same for the tables of analytics: a new table is filled beside the one
// that serves, and takes its place when it has all that the log has. The other ways,
// and why not: to insert again over what is there leaves rows whose key was changed by
// hand; to drop partitions and read them again shows a hole for as long as it takes.
//
// A rebuild that is killed leaves a projection that is nearer to the log than
// before; the next one begins anew.
package rebuild
