package feed

import (
	"slices"
	"strings"

	"activityfeed/internal/event"
)

// bond is what one user is to another one.
type bond uint8

const (
	bondFollows bond = 1 << iota
	bondMutes
	bondBlocks
	bondBlockedBy
	bondSelf
)

// shows says whether the other one's posts stand in the home feed.
func (b bond) shows() bool {
	return b == bondFollows || b&bondSelf != 0
}

// interest is the index of who wants to know of whose posts: the users with open
// streams, and the authors in their home feeds. An edge takes 24 bytes. Its users
// hold the hub's lock.
type interest struct {
	readers map[string]*reader
	authors map[string]*author
}

// reader is a user with open streams in this process.
type reader struct {
	user string
	// ties are the bonds to others, sorted by their names.
	ties     []tie
	watchers []*watcher
	// seen is the newest read position that was told.
	seen event.ID
	// joining counts those who use the reader and are not among the watchers yet.
	joining int
	// loaded is closed when ties are complete, or err says why they are not.
	loaded chan struct{}
	err    error
}

type tie struct {
	author *author
	bond   bond
}

// author is a user to whom a reader has a bond.
type author struct {
	name string
	// ties counts the readers with a bond.
	ties int
	// readers are those in whose home feed the author's posts stand.
	readers []*reader
}

func newInterest() *interest {
	return &interest{readers: map[string]*reader{}, authors: map[string]*author{}}
}

func (r *reader) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.ties, name, func(t tie, name string) int { return strings.Compare(t.author.name, name) })
}

// sees says whether an author's posts stand in the reader's home feed.
func (r *reader) sees(name string) bool {
	i, known := r.find(name)
	return known && r.ties[i].bond.shows()
}

// set changes one bond of a reader. It returns whether the author's posts stood in
// the home feed before and do not now.
func (x *interest) set(r *reader, name string, b bond, on bool) (lost bool) {
	i, known := r.find(name)
	if !known {
		if !on {
			return false
		}
		a := x.authors[name]
		if a == nil {
			a = &author{name: name}
			x.authors[name] = a
		}
		a.ties++
		r.ties = slices.Insert(r.ties, i, tie{author: a})
	}
	t := &r.ties[i]
	a, before := t.author, t.bond.shows()
	if on {
		t.bond |= b
	} else {
		t.bond &^= b
	}
	after := t.bond.shows()
	switch {
	case after && !before:
		a.readers = append(a.readers, r)
	case before && !after:
		a.drop(r)
	}
	if t.bond == 0 {
		r.ties = slices.Delete(r.ties, i, i+1)
		x.untie(a)
	}
	return before && !after
}

// forget takes a reader out of the index.
func (x *interest) forget(r *reader) {
	for _, t := range r.ties {
		if t.bond.shows() {
			t.author.drop(r)
		}
		x.untie(t.author)
	}
	r.ties = nil
	delete(x.readers, r.user)
}

func (x *interest) untie(a *author) {
	if a.ties--; a.ties == 0 {
		delete(x.authors, a.name)
	}
}

// drop takes a reader from the author; their order is of no use.
func (a *author) drop(r *reader) {
	i, last := slices.Index(a.readers, r), len(a.readers)-1
	a.readers[i], a.readers[last] = a.readers[last], nil
	a.readers = a.readers[:last]
}
