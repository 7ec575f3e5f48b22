// Package notify keeps everybody's inbox: what happened that they asked to be
// told. It consumes the facts of the log, keeps what it needs of them in Redis
// under the prefix "notify:", and serves the NotificationService: list, groups,
// unread and unseen counts, marks, live stream, devices and preferences. What stands
// in an inbox is brought to its owner's devices by the packages below: deliver
// (who is told when), schedule (where it waits), push (how), device, prefs, template.
//
//	PhotoPosted    a row for each mentioned user, and for each follower who asked
//	               for every post; a follow that does not say, which graph never
//	               writes, asks for none
//	UserFollowed   a row for the followee, if it begins a follow
//	PhotoDeleted   hides the rows about the post, if its author asked
//	UserBlocked    the two see nothing of each other; UserMuted: one way
//
// # Promises
//
//   - One row a person and event: a mention wins over the post. Nobody is told of
//     themselves. Who follows, unfollows and follows again is told once for as
//     long as the first row is there.
//
//   - Events may come repeatedly, in part, and again after a crash: the row has the
//     event's id and is written once; a post that comes again is told to those who
//     wanted it when it was made, not to who followed since; facts about an edge
//     that are older than what is known change nothing.
//
//   - An inbox is its InboxRows newest rows, in the exact order of their ids, in
//     whatever order they were written.
//
//   - A row is hidden at the next read when its post is deleted or when the two do
//     not see each other any more. What was told before a block is back after it;
//     what happened during a block is never told. Rows are shown for Retention.
//
//   - The unread count is that of the rows that are shown, under repeats, deletes,
//     blocks and marks. Marks are part of the rows: a row that comes late is
//     unread, though newer ones were marked.
//
//   - A live stream sends each row once and misses none that stays in the inbox
//     until it is read. A row that came late, while the client was away, is sent
//     when it comes back, perhaps a second time: the id tells.
//
//   - Unseen are the rows that came since the list was opened; what is read is seen.
//
// # What people set
//
// Devices, preferences and marks are facts too, on the topic "account": each is the
// whole state of its key, so the topic may be compacted, and stays apart from what
// everybody reads. A command is answered when log and Redis both have it; the
// consumer takes the fact in again, which changes nothing. So Redis can be thrown
// away and is rebuilt with them: by a Restore (`activityfeed rebuild`), which pushes
// nothing, or by a consumer that finds Redis empty at its start, which pushes again
// what is within its TTL, with the same collapse key. Not as before is then that a row
// that came late and lies below what was read counts as read, that preferences of today
// decide what is put into the inbox, and that the last outcomes of devices are unknown.
//
// # Storage
//
// All keys of a user share a hash tag and no command touches two; see keys.go. An
// inbox is a LIST of packed rows of about 20 bytes (row.go), written by one script
// (lua/rows.lua) that is the ordinary LPUSH for a newest row and searches for the
// place of any other by halves. A follow that may have been told of before, because
// the two were connected once and their edge says so, is looked for in the whole
// inbox; no other row is. Measured with 200 rows a person, Redis 7.0, go-redis
// pipelines of 500: 27 bytes a row, where a ZSET of the same rows (score 0, ZADD
// and ZREMRANGEBYRANK) takes 132; and 10 to 12 us of Redis a row with expiry and
// publishing, where the ZSET takes 6 to 9 without. Memory is what an inbox of
// everybody costs all the time, so the LIST.
//
// Reads are two round trips: the rows, then in one pipeline what hides them. A
// delete therefore costs one SADD, however many were told.
//
// # Live streams
//
// A writer publishes on the channel of an inbox, with no content, that it has
// changed; and only if somebody has marked it as watched. One connection a process
// hears for all its streams, and each stream compares the inbox with what it has
// sent. Every (re)subscription reads the inbox, so a broken connection loses
// nothing. The mark is there because a cluster carries each PUBLISH to every node:
// on three nodes 148,000 rows/s were written where nobody watches, and 107,000
// without the mark.
//
// # What an operator sees
//
// Redis away: events wait in the log (activityfeed_messages_failed_total with
// reason "outage"), calls get UNAVAILABLE, open streams stay open and catch up.
// activityfeed_notify_hidden_total counts recipients left out by a block or mute,
// activityfeed_notify_slow_clients_total streams whose clients do not read.
package notify
