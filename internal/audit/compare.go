package audit

import (
	"fmt"

	"activityfeed/internal/event"
)

// Kind says in what way something differs.
type Kind string

// The kinds of differences.
const (
	// Missing: the definition has the post, the feed has not.
	Missing Kind = "missing"
	// Extra: the feed has a post that the definition has not.
	Extra Kind = "extra"
	// Duplicate: the feed has a post again.
	Duplicate Kind = "duplicate"
	// Misordered: the post stands after an older one.
	Misordered Kind = "misordered"
	// Altered: the post's author or content is not what the log has.
	Altered Kind = "altered"
	// Paging: a page breaks the contract of the API.
	Paging Kind = "paging"
	// Unreadable: the API refuses to serve the feed.
	Unreadable Kind = "unreadable"
	// Healed: a feed differed at the first read and no more at the second, though
	// nothing was accepted meanwhile.
	Healed Kind = "healed"
	// Reposted: one idempotency key of one author has two posts in the log.
	Reposted Kind = "reposted"
)

// Kinds lists all kinds, in the order of a report.
func Kinds() []Kind {
	return []Kind{Missing, Extra, Duplicate, Misordered, Altered, Paging, Unreadable, Healed, Reposted}
}

// Difference is one thing that differs: a line of the drift export.
type Difference struct {
	// User is whose feed it is; for Reposted, the author.
	User string `json:"user"`
	Kind Kind   `json:"kind"`
	// PostID is the post, if it is about one.
	PostID string `json:"post_id,omitempty"`
	// AuthorID is the author of the post as the feed says, or as the log says if the
	// feed has not got the post.
	AuthorID string `json:"author_id,omitempty"`
	// Reason is for people.
	Reason string `json:"reason"`
}

// compare holds what was served against the definition, which is sorted. explain
// says why a post is in the feed or not.
func compare(user string, got reading, want []Post, explain func(author string, id event.ID) string) []Difference {
	found := got.faults
	add := func(kind Kind, p Post, format string, args ...any) {
		found = append(found, Difference{User: user, Kind: kind, PostID: p.ID.String(), AuthorID: p.Author, Reason: fmt.Sprintf(format, args...)})
	}
	defined := make(map[event.ID]Post, len(want))
	for _, p := range want {
		defined[p.ID] = p
	}
	var newest, oldest, before event.ID
	served := make(map[event.ID]struct{}, len(got.posts))
	for _, p := range got.posts {
		if _, again := served[p.ID]; again {
			add(Duplicate, p, "stands there again")
			continue
		}
		served[p.ID] = struct{}{}
		if before != 0 && p.ID > before {
			add(Misordered, p, "stands after the older %s", before)
		}
		before, newest = p.ID, max(newest, p.ID)
		if oldest == 0 || p.ID < oldest {
			oldest = p.ID
		}
		switch w, ok := defined[p.ID]; {
		case !ok:
			add(Extra, p, "%s", explain(p.Author, p.ID))
		case w.Author != p.Author:
			add(Altered, p, "the log says by %s", w.Author)
		case w.Digest != p.Digest:
			add(Altered, p, "the content is not the log's")
		}
	}
	for _, p := range want {
		if _, ok := served[p.ID]; ok {
			continue
		}
		switch {
		case got.cut && p.ID < oldest, got.cut && oldest == 0:
			// Beyond what was read.
		case oldest == 0:
			add(Missing, p, "%s; the feed is empty", explain(p.Author, p.ID))
		case p.ID > newest:
			add(Missing, p, "%s; newer than all that the feed has", explain(p.Author, p.ID))
		case p.ID < oldest:
			add(Missing, p, "%s; older than all that the feed has", explain(p.Author, p.ID))
		default:
			add(Missing, p, "%s; a hole between newer and older posts", explain(p.Author, p.ID))
		}
	}
	return found
}
