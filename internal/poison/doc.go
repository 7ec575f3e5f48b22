// Package poison is the tool behind `activityfeed poison list|show|replay|drop`:
// what a person does with the events that a service could not process.
//
// They lie in the topic `<service>.poison`, written by internal/middleware. The
// tool reads that topic whole each time; it keeps no state of its own. A letter is
// gone when its tombstone is in the topic.
//
// A replay goes to `<service>.retry`, which that service alone reads: in the topic
// `activity` it would reach the services that have processed it long ago. First
// the event, then the tombstone: a crash between the two shows the letter again,
// and a second replay does no harm, as handlers are idempotent. If the event fails
// once more, it comes back as the letter's next generation, with the replay count
// one higher; the tool refuses to send an event round for ever.
package poison
