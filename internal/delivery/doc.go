// Package delivery carries what the services did: proto/activityfeed/v1/delivery.proto
// on the topic "deliveries". feed and notify report, analytics stores; they know
// this package and not each other.
//
//	fact.go      Fact: what was done, its name, and how it lies in a record
//	reporter.go  Reporter: from the services to the log, without holding them up
//
// A Fact is a measurement, and worth less than the speed of what it measures. So
// [Reporter.Report] never waits: facts gather in a bounded queue, go to the log in
// batches, and are dropped and counted when the log does not take them. A process
// that is killed loses what it had not written yet, half a second at most. What is
// on the topic is there at least once, and each fact has a name that is the same
// for a repeat of the same work, so that whoever counts can count it once.
package delivery
