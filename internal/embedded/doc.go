// Package embedded runs the three engines that activityfeed needs, so that one
// binary on a laptop is a whole system: an event log that speaks the Kafka
// protocol, Redis, and ClickHouse.
//
//   - [StartKafka] keeps the log in this process and on disk.
//   - [StartRedis] runs a redis-server child; with none on PATH it falls back to
//     an in-memory stand-in, and [Redis.Persistent] says so.
//   - [StartClickHouse] runs the ClickHouse engine as a child: either this same
//     binary, started again with an environment variable and a shared library
//     ([RunChild]), or a clickhouse binary on PATH.
//
// All three listen on the loopback interface only, hold a lock on their data
// directory, are reached with the same client code as a grown-up installation,
// and end with this process: on Linux even when it is killed.
//
// An engine that cannot be had gives [ErrEngineMissing]; the text says what to
// run. Restarting an engine that ended by itself is up to the owner, who learns
// of it from Done and Err.
package embedded

import "errors"

// ErrEngineMissing is in the chain of an error that says that an engine is not
// on this machine. The text around it says what to run to get it.
var ErrEngineMissing = errors.New("engine missing")
