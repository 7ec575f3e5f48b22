// Package audit is the engine of `activityfeed audit`: it holds the home feeds
// that the API serves against the definition of a home feed.
//
// The definition is [Model]: plain, in memory, built from the log alone. [Run]
// replays the whole log into it, waits until the feeds have what the log has, reads
// each feed page by page as a client would, and compares. It also counts the events
// of the log and compares the counts with those of the analytics table.
//
// The auditor may look at a server that works. A feed that differs is read again
// after catching up, and only counts if it differs from a definition that did not
// change meanwhile. Yet a feed that heals by itself while nothing was accepted is
// reported too: at rest, the first read must be right.
//
// [Watch] stays and audits a sample again and again: a process of its own, since it
// holds the log's graph in memory and reads as clients do. A repair hands those whom
// the differences concern to internal/rebuild, and the feeds are read again.
package audit
