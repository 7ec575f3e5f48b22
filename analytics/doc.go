// Package analytics keeps every event in ClickHouse, for people who ask in SQL.
//
// It consumes the topic "activity" as group "analytics", in batches: one
// Watermill message is a contiguous run of records of one partition, and becomes
// one insert. What comes back from poison arrives singly on "analytics.retry"
// and takes the same way, as a batch of one. What the services did with the events
// (internal/delivery, topic "deliveries") takes the same way into a second table.
//
//	analytics.go   Analytics: New, Run
//	router.go      topics -> middleware -> sink: the wiring on one screen
//	middleware.go  what happens when an insert fails, and why in this order
//	sink.go        one batch: decode, insert, poison what cannot be a row
//	gather.go      small batches share an insert: at rest one insert a second
//	budget.go      how much may be poison before we take ourselves for broken
//	columns.go     the columns of an insert on their way to the driver
//	block.go       a batch as columns; rows.go: events; facts.go: what was done with them
//	originals.go   a row as the event that it was made of; history.go: the rows as the log
//	clickhouse.go  the connection and the insert; classify.go: whose fault an error is
//	schema.go      schema/*.sql, numbered files, applied once
//	refill.go      a table made anew beside the one that serves; refill_rest.go: what the
//	               log has no more; hold.go: one at a time
//	questions.go   the ready questions, one view each
//	query.go       Reader: read-only questions for `activityfeed sql`; printer.go: as text
//	metrics.go     what an operator sees
//
// Promises, each with a test:
//   - Every event is a row of the table `events` at least once, and the views
//     count it exactly once, whatever was repeated: an insert carries a token
//     made of its place in the log and of its ids, so a repeat is dropped by
//     ClickHouse; what was cut or gathered otherwise collapses by event id.
//   - ClickHouse may be away, at start or later: nothing is lost, nothing goes to
//     poison. Until the schema is there nothing is consumed; then it catches up.
//   - A record that cannot be a row goes to "analytics.poison" alone, before its
//     batch is acknowledged; its neighbours are inserted.
//   - Unknown event types are skipped and counted.
//   - A delivery fact counts once in the views, with the first time that it was done.
//     There may be fewer facts than deliveries: internal/delivery says when.
//
// An operator sees a failing ClickHouse as a growing lag of the group, the gauge
// activityfeed_analytics_freshness_seconds going up and one log line when it
// starts and one when it ends.
package analytics
