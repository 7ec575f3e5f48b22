package audit

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// keyLifetime is for how long an idempotency key holds: design section 3.
const keyLifetime = 24 * time.Hour

// tally counts what the log has. An event that stands there twice (a producer that
// wrote again after a lost answer) counts once, as the analytics table has it.
type tally struct {
	records, unknown, bad int64
	// stored are the events of the history, lost those of them that are posts of which
	// nobody knows what they show.
	stored, lost int64
	// ids are the events by type, eight bytes each.
	ids map[string][]event.ID
	// keys are the posts by author and idempotency key, as a digest: of a million keys
	// two share one with a chance of 1 in 30 million.
	keys     map[uint64]event.ID
	reposted []Difference
}

func newTally() *tally {
	return &tally{ids: make(map[string][]event.ID), keys: make(map[uint64]event.ID)}
}

func (t *tally) add(e event.Event) {
	name := e.Type()
	t.ids[name] = append(t.ids[name], e.ID)
	if posted, ok := e.Data.(*pb.PhotoPosted); ok && e.IdempotencyKey != "" {
		t.addKey(e, posted.GetPhoto())
	}
}

func (t *tally) addKey(e event.Event, photo *pb.Photo) {
	id, err := event.ParseID(photo.GetPostId())
	if err != nil {
		return
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(photo.GetAuthorId() + "\x00" + e.IdempotencyKey))
	first, used := t.keys[h.Sum64()]
	switch {
	case !used || id.Time().Sub(first.Time()) >= keyLifetime:
		t.keys[h.Sum64()] = id
	case first != id:
		t.reposted = append(t.reposted, Difference{
			User: photo.GetAuthorId(), Kind: Reposted, PostID: photo.GetPostId(), AuthorID: photo.GetAuthorId(),
			Reason: fmt.Sprintf("has the idempotency key of post %s", first),
		})
	}
}

// counts returns how many events the log has, by type.
func (t *tally) counts() map[string]int64 {
	counts := make(map[string]int64, len(t.ids))
	for name, ids := range t.ids {
		slices.Sort(ids)
		ids = slices.Compact(ids)
		t.ids[name] = ids
		counts[name] = int64(len(ids))
	}
	return counts
}

// repeats returns how many records repeat an event. Beside a history nobody knows: what
// it has in common with the log is no repeat.
func (t *tally) repeats() int64 {
	if t.stored > 0 {
		return 0
	}
	n := t.records - t.unknown - t.bad
	for _, c := range t.counts() {
		n -= c
	}
	return n
}
