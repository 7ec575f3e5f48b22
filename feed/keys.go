package feed

import "activityfeed/internal/event"

// Every key of the feed in Redis is made here. The braces are hash tags: what
// belongs to one user, or to one post, lies on one node of a cluster, and no
// command or script ever touches two tags. User ids hold no braces, see
// event.proto.

// feedKey is the LIST of a home feed: post ids as 19 digits, newest first, which
// Redis keeps as integers of 10 bytes. Its last entry may be [sentinel] or a
// marker (see [markerPrefix]).
func feedKey(user string) string { return "feed:{" + user + "}" }

// pulledKey is the SET of the authors whose posts are not pushed into a home feed:
// readers of its list must merge theirs. It means nothing without the list. It has
// no expiry, so that a Redis that evicts keys that have one takes the list first.
func pulledKey(user string) string { return "pulled:{" + user + "}" }

// authorKey is the LIST of all post ids of an author, newest first, sorted, each
// once.
func authorKey(user string) string { return "author:{" + user + "}" }

// postKey is the STRING of a post: its body or its tombstone, see posts.go.
func postKey(id event.ID) string { return "post:{" + id.String() + "}" }

// seenKey is the STRING of a user's read position: a post id.
func seenKey(user string) string { return "seen:{" + user + "}" }

// editionKey is the STRING that names what a home feed is made of: it changes with
// every build of the list and every change of the user's edges, so that what was
// read under one name belongs together. It begins with [markerPrefix] while the
// list is being built. Without it a feed is read at a higher price.
func editionKey(user string) string { return "edition:{" + user + "}" }

// newsKey is the STREAM of the last deletes, for all who keep bodies in memory;
// newsField holds the post id.
const (
	newsKey   = "deleted:{posts}"
	newsField = "post"
)

// relation is a directed edge between two users, seen from one of them: a HASH
// of the other users to the version of the edge, and a HASH of those to whom the
// edge ended lately, see lua/link.lua.
type relation string

const (
	followers relation = "followers"
	following relation = "following"
	blocks    relation = "blocks"
	blockedBy relation = "blockedby"
	mutes     relation = "mutes"
)

// key is the HASH of the live edges of a user.
func (r relation) key(user string) string { return string(r) + ":{" + user + "}" }

// goneKey is the HASH of the edges of a user that ended; it expires.
func (r relation) goneKey(user string) string { return "un" + string(r) + ":{" + user + "}" }

const (
	// generationField is the entry of a followers hash that changes with every
	// change of its members; it begins with the author's state, see large.go. It is
	// no user id.
	generationField = "#"
	// sentinel is the last entry of a list that reaches the beginning of history.
	// It sorts below every id, and a trim takes it off by itself.
	sentinel = "0"
	// markerPrefix begins the last entry of a list that is being built; the rest
	// is the token of its builder.
	markerPrefix = "B"
)
