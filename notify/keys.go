package notify

import "strings"

// Every key of notify in Redis is made here. The braces are hash tags: what
// belongs to one user lies on one node of a cluster, and no command or script
// ever touches two tags. User ids hold no braces, see event.proto.

// inboxKey is the LIST of a user's rows, newest id first, see row.go and
// lua/rows.lua. It expires when nothing was added for Retention.
func inboxKey(user string) string { return "notify:inbox:{" + user + "}" }

// watchedKey marks for a while that somebody may be watching the inbox. The
// channel of the same name tells them that it has a new row.
func watchedKey(user string) string { return "notify:watched:{" + user + "}" }

// personKey is the HASH of what a user set for themself, out of the topic "account":
// "preferences", their version "preferred", and "off", a byte for each kind that is
// not put into the inbox; "marked", the version of the newest marks, and what of
// them has to be restored: "read", "also" and "seen", see lua/restore.lua.
func personKey(user string) string { return "notify:person:{" + user + "}" }

// deletedKey is the SET of the posts that an author took back, for as long as a
// row about one of them could be shown. Whoever deletes a post of somebody else
// only writes into their own set, which nobody asks about that post.
func deletedKey(author string) string { return "notify:deleted:{" + author + "}" }

// relation is a directed edge between two users, seen from one of them: a HASH of
// the other users to what lua/edge.lua knows of the edge, and a HASH of those to
// whom the edge ended lately. A small hash is four times smaller than a set.
type relation string

const (
	// followers of a user, so that a change of level is not told as a new follow.
	followers relation = "followers"
	// subscribers of a user: those followers who asked for every post.
	subscribers relation = "subscribers"
	// blocks, blockedBy, mutes and mutedBy of a user hide others from them, or
	// them from others.
	blocks    relation = "blocks"
	blockedBy relation = "blockedby"
	mutes     relation = "mutes"
	mutedBy   relation = "mutedby"
)

// unheardBy lists the relations of an actor to those who are not told of them.
var unheardBy = []relation{blocks, blockedBy, mutedBy}

// hiddenFrom lists the relations of a reader to those whose acts they do not see.
var hiddenFrom = []relation{blocks, blockedBy, mutes}

// key is the HASH of the live edges of a user.
func (r relation) key(user string) string { return "notify:" + string(r) + ":{" + user + "}" }

// endedKey is the HASH of the edges of a user that ended; it expires.
func (r relation) endedKey(user string) string { return "notify:un" + string(r) + ":{" + user + "}" }

// watchedUser returns the user of a channel, empty if it is none.
func watchedUser(channel string) string {
	user, _ := strings.CutSuffix(strings.TrimPrefix(channel, "notify:watched:{"), "}")
	return user
}
