// Package feed keeps home and author feeds in Redis and serves them.
//
// It reads every fact of the topic activity (and, alone, feed.retry), keeps what
// it needs of them, and answers FeedService:
//
//	home(u) = posts by authors whom u follows, and u's own; not deleted; neither
//	          side blocking; the author not muted; newest id first
//
// # Promises
//
// At rest the API returns exactly home(u), page by page, each post once, whatever
// order, repeats and crashes the facts went through; pages are full while more
// exist, has_more is exact, and a page token stays valid over deletes, trims and
// rebuilds. A delete, a block or a mute is true at the next read. A property test
// against a plain model holds us to it. Everything here is a projection: Redis can
// be emptied and the log read again from its start.
//
// What is unseen is counted when it is asked for, over the posts above the read
// position: so it is right after deletes, unfollows, blocks and mutes, at a cost that
// [mostUnseen] bounds. The position is a fact (UserSawFeed), one for all devices, and
// only moves forward.
//
// # Live
//
// WatchFeed tells the posts that come into a home feed, removed posts, and moves of
// the read position. Each process that serves streams reads the log once (live.go) and
// matches it in memory against whom its connected users follow (interest.go): nobody
// who is not connected costs anything. Follows, blocks and mutes count from their
// place in the log on; a follow does not bring older posts.
//
// A stream ends, its client comes back with the cursor of the last message that it
// has, on any process, and gets each post that stands in the feed and that it has not
// had: once. For that the cursor names the posts of the last five minutes (place.go),
// because posts do not come in the order of their ids. A post that comes to the log
// later than that is in the feed, but not on streams. What the log has and Redis does
// not yet is taken from the facts of the last minute (recent.go); while the consumers
// are further behind than that, streams are refused.
//
// # What lies in Redis
//
// keys.go has the names. feed:{u} is a LIST of post ids, at most about
// [Config.Cap], and no more than a memory of what the definition says: the lists
// author:{a} of the followees, merged. A feed that nobody reads has no list, and
// pushing to it costs nothing; its next read builds one (rebuild.go), in turn with
// others (turns.go). The last
// entry tells what the list is: the sentinel "0" (it reaches the beginning of
// history), a marker "B..." (it is being built), or an id (older posts are in the
// authors' lists only, from where pages go on, timeline.go). Who follows, blocks
// and mutes whom are HASHes of user to version. seen:{u} is the read position.
//
// # The price of a push
//
// An ordinary push is one bare LPUSHX a follower, which never looks into the list:
// three times the throughput of a sorted set, at an eighth of the memory. What a
// list may look like for that, and why readers return exact pages all the same:
//
// Let a push be ordinary only if its id was made less than 60 s before, and not
// more than 30 s after, the moment at which it is sent, by the consumer's clock;
// 20 s more for waiting and calling and 10 s for the difference between consumers'
// clocks make 120 s, the disorder. A push x that is in front of y was executed
// later than y, so y's id is at most 30 s newer than y's push, and x's at most 90 s
// older than x's own: y is newer than x by less than the disorder. All other
// pushes, late or repeated, are put between two neighbours, f newer and e older than
// they (lua/push.lua), wherever in a disordered stretch halving meets such a pair.
// That keeps this true: f is newer than anything in front of it by less than the
// disorder, and the post is older than f; anything behind e is newer than e by less
// than the disorder, and the post is newer than e. A post older than the last entry
// of a trimmed list stays out, like what was cut off. So, once a reader has seen an
// entry e, nothing deeper in the list can be newer than e plus the disorder; nor can
// what a trim cut off, since it was deeper, nor what was pushed before the list
// began. A reader takes what is newer than that of the last entries that it read,
// sorts, and drops repeats; a crash may have left some. If the list ends before the
// page is full, the authors' lists go on from there; they hold every post, sorted,
// each once.
//
// A post whose id is more than 30 s ahead of the consumer is put in place, but what
// is pushed until its time comes stands in front of it. Hosts that accept posts
// must keep their clocks: beyond that, and in feeds with many posts at once, such a
// post can be missing from the first pages.
//
// # Large authors
//
// The posts of an author with more than [Config.LargeAuthor] followers are pushed
// into nobody's list but their own; whoever reads merges the author's list. It must
// be known of each list which authors that concerns. So a list has marks, a SET
// beside it under the same hash tag, which comes with the list in one call: a reader
// who follows no large author pays a look at a key that is not there, the others one
// round trip for all large authors together, as bounded as their number. A set of all
// large authors in each reader's memory would be stale for a while, and to find out
// which of ten thousand the reader follows costs more than marks; asking for the
// followees' states at each read costs as much as having no list.
//
// An author is pushed, turning or large; the state is the first letter of the
// generation of their followers, which is read with each post anyway. Reading an
// author's list is always right, as it holds every post, and so is a needless push,
// as repeats are dropped. So all that must hold is:
//
//		while an author is large, each list of a follower has the author's mark
//
//	  - A post that finds its author above the bound says "turning", marks the lists
//	    of all followers, says "large", and is the first that is not pushed. A failure
//	    anywhere leaves "turning"; the post comes again and begins anew.
//	  - A feed that is built meanwhile puts its marker into the list first and asks for
//	    the states then: either it sees that the author is turning, or its marker is
//	    there to be marked. Feeds without a list need no mark.
//	  - A follow drops the follower's list. One that comes from another lane while the
//	    lists are marked changes the generation, and "large" is only put in the place
//	    of the very "turning" that this post has put: then the author stays turning,
//	    which is pushed, until the next post. The same stops a process that hung.
//	  - A large author with fewer than [Config.SmallAuthor] followers is pushed from
//	    the next post on, and that is all. The lists lack what was not pushed; they
//	    keep their marks until they are built anew, which happens when something is
//	    followed or unfollowed, or within a tenth of [Config.ColdAfter].
//
// Marks only ever come to a list that lives and go with it, so no late command can
// take one away that is needed.
//
// # What a reader remembers
//
// A page of a warm feed is one round trip, which concurrent requests share (lane.go):
// the newest entries, and the name of the edition, which changes with every build of the
// list and every edge of the user's. While it stays, what is known of the authors
// stays true (views.go). Bodies are kept until their delete is told, and each round
// trip asks what was deleted since the last one (bodies.go); so deletes, blocks,
// mutes and unfollows are true on the next read of every process. Bodies are kept as
// messages and as bytes, from which a page is put together (wire.go).
//
// First pages are kept whole for who reads them again (fronts.go). They are read through
// one connection on which Redis tells once of each key that changes (tracker.go): the
// list, its edition, its marks. Redis sends that before any later answer on the same
// connection, so each reader, before a kept page counts, has an answer there to a
// question that was sent after the reader came, one for all who read at that moment:
// what was deleted. So a kept page is as exact as one that is read. What could change
// without Redis telling is not kept: pages with posts of large authors, pages that lack
// a body, and on a cluster or in a failover group, where more than one Redis would have
// to be asked. Where the connection fails, pages are read on others meanwhile. Who comes
// after a change pays one question more than without all this.
//
// # Why it is as it is
//
//   - Edges have versions (the event's id), so a fact that comes late, from the
//     retry topic or from a process that was stopped, cannot undo a newer one.
//     Plain SETs would be simpler; a HASH of up to 128 members takes even less
//     memory in Redis 7.0 (listpack: 22 bytes an edge, a SET 60). Of two facts
//     within 2 s the later one in the log counts, as hosts' clocks differ.
//   - The followers of busy authors are kept in memory. Redis tells their
//     generation when a post is listed, and only followers of that generation are
//     used: that is as good as reading them at that moment.
//   - Readers check that they follow the author of each post. A push that was
//     overtaken by an unfollow, in a process that hung, shows nothing.
//   - Follows, blocks and mutes change the edge first, then delete the list. A build
//     puts its marker first, then reads the edges, then the posts, and writes only
//     where its marker still is: whatever happens meanwhile is in the list or takes
//     the marker away.
//   - Commands of concurrent handlers share pipelines (batcher.go): posts with ten
//     followers cost little more a follower than posts with a thousand. Short groups
//     of commands have connections of their own, and so have large audiences, which
//     are pushed part by part: Redis turns from one connection to the next, so that
//     nobody's post waits for a pipeline full of another's followers. A post's own
//     steps still wait for each other.
//
// # When it fails
//
// Redis down, full or failing over is an outage: events back off in their lanes,
// the breaker spares Redis, nothing goes to poison, and it heals by itself. What
// cannot be decoded goes to feed.poison at once. The metrics activityfeed_feed_*
// tell the rest: rising careful_pushes_total means that events come late, rising
// hydrate_misses_total that Redis lost keys. A failover can lose writes that were
// answered: Redis copies to its replicas afterwards. [Restore] brings them back from
// the log while all goes on; `activityfeed rebuild` and `audit --repair` run it.
package feed
