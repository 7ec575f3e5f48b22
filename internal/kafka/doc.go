// Package kafka is Watermill's Publisher and Subscriber on franz-go. It knows
// bytes, not events: a message is a record, its metadata are headers, and the
// metadata entry record.KeyMetadata is the record's key.
//
// The [Subscriber] keeps a window of messages in flight instead of one a
// partition. Its promises, each held by a test:
//
//   - every record is delivered at least once;
//   - records of one key are delivered one at a time, in the order of the log;
//     records without a key have no order; an empty key is a key like any other;
//   - the committed offset of a partition is never past its first unfinished
//     record, never goes back, and is written by the partition's owner alone;
//   - a message that is acknowledged after its partition went to another member
//     changes nothing;
//   - a message that is nacked comes back after a growing pause, and holds up
//     its own key alone.
//
// The way of a record: the poll loop puts it into the [window], which queues it
// in the lane of its key; the dispatcher hands out the heads of the lanes while
// fewer than MaxInFlight messages are out; the acknowledgement marks it in the
// partition's ring; the committer writes the end of the ring's finished head.
// Whoever reads the code starts at subscription.go, then window.go.
//
// In batch mode one message carries a contiguous run of records of one
// partition, and a batch that a crash interrupted is formed again with exactly
// the same bounds (see batch.go). Very many records go that way, so their memory is
// used again: what the client reads into (pool.go, flat.go), the frames (chunks.go) and
// the payloads of messages that were acknowledged.
package kafka
