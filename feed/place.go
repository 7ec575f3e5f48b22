package feed

import (
	"encoding/binary"
	"slices"
	"time"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
)

const (
	// lateness is how long after its id was made a post may come and still be told
	// from those that a stream has sent: twice the time for which post/ may publish
	// an attempt again. Later ones are in the feed, but not on streams.
	lateness = 5 * time.Minute
	// mostMet is how many posts of the last lateness a place names, at about 5 bytes
	// each. In a feed with more of them, posts may be less late.
	mostMet = 64
)

// place is how far a client has got in a home feed. One id would not do: hosts make
// ids at the same time and a publish may take seconds, so that a post can come after
// one with a newer id. Ids up to floor count as met; above it, those in met do.
type place struct {
	floor event.ID
	met   []event.ID // ascending
}

// placeAfter returns the place of a client who has the newest posts of a feed, newest
// first; more says that there are older ones.
func placeAfter(ids []event.ID, more bool, now time.Time) *place {
	p := &place{floor: event.FirstID(now.Add(-lateness))}
	if n := len(ids); more && n > 0 {
		p.floor = max(p.floor, ids[n-1])
	}
	for _, id := range slices.Backward(ids) {
		p.meet(id)
	}
	return p
}

// meet returns whether an id was not met before.
func (p *place) meet(id event.ID) bool {
	i, known := slices.BinarySearch(p.met, id)
	if known || id <= p.floor {
		return false
	}
	p.met = slices.Insert(p.met, i, id)
	if len(p.met) > mostMet {
		p.floor = p.met[0]
		p.met = slices.Delete(p.met, 0, 1)
	}
	return true
}

// has says whether an id was met.
func (p *place) has(id event.ID) bool {
	_, known := slices.BinarySearch(p.met, id)
	return known || id <= p.floor
}

// raise forgets what is too old to be told apart.
func (p *place) raise(floor event.ID) {
	if floor <= p.floor {
		return
	}
	n, _ := slices.BinarySearch(p.met, floor+1)
	p.floor, p.met = floor, slices.Delete(p.met, 0, n)
}

// cursorOf names the cursors of a user's streams; see page.go for the form of tokens.
func cursorOf(user string) tokenList { return tokenList{kind: "watch", user: user} }

// token returns the cursor of a place: the floor, then the distance from each id to
// the next.
func (p *place) token(list tokenList) string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, 8+5*len(p.met)), uint64(p.floor))
	last := p.floor
	for _, id := range p.met {
		raw = binary.AppendUvarint(raw, uint64(id-last))
		last = id
	}
	return list.seal(raw)
}

// parsePlace reads a cursor, nil if it is empty.
func parsePlace(list tokenList, cursor string) (*place, error) {
	refused := fault.Invalid("cursor", "is not one that this server gave for this feed")
	raw, err := list.open(cursor)
	switch {
	case err != nil:
		return nil, refused
	case raw == nil:
		return nil, nil //nolint:nilnil // no cursor, no place
	case len(raw) < 8:
		return nil, refused
	}
	p := &place{floor: event.ID(binary.BigEndian.Uint64(raw))}
	last := p.floor
	for raw = raw[8:]; len(raw) > 0; {
		step, n := binary.Uvarint(raw)
		next := last + event.ID(step)
		if n <= 0 || next <= last || len(p.met) == mostMet {
			return nil, refused
		}
		p.met = append(p.met, next)
		raw, last = raw[n:], next
	}
	return p, nil
}
