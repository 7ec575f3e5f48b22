package feed

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
)

// readAhead is how many entries are read beyond those asked for: to reach one
// that is older than the disorder, as a feed with a post every few minutes does,
// and to make up for what is hidden. Of a feed that was read before fewer are read
// if they did then.
const readAhead = 10

// window is a part of a stored home feed.
type window struct {
	// state tells what kind of list it is.
	state listState
	// entries are the ids that were read, as they lie: nearly sorted, perhaps with
	// repeats.
	entries []event.ID
	// pulled are the authors whose posts are not pushed into the list.
	pulled []string
	// edition names what the feed is made of, "" if nobody told.
	edition string
	// atEnd says that the part reaches the end of the list.
	atEnd bool
	// expires is how long the list has to live.
	expires time.Duration
	// tracked says that Redis tells when it changes.
	tracked bool
}

type listState int

const (
	// cold: there is no list.
	cold listState = iota
	// unfinished: somebody builds it; nothing in it can be relied on.
	unfinished
	// partial: it was trimmed; older posts are in the authors' lists only.
	partial
	// whole: it reaches the beginning of history.
	whole
)

// home returns the ids of a home feed below cursor, newest first, each once: want
// at most, and at least one unless end, which says that there are no more. first is
// what [redisStore.recall] returned of a first page, nil of others.
func (s *redisStore) home(ctx context.Context, user string, cursor event.ID, want int, first *reading) (ids []event.ID, end bool, err error) {
	ahead := s.ahead
	known := s.views.know(user)
	if cursor == noCursor {
		ahead = known.ahead(s.ahead)
	}
	count, built := want+ahead, false
	for {
		w, err := s.read(ctx, user, known, cursor, count, first)
		if err != nil {
			return nil, false, err
		}
		if w.state == cold || w.state == unfinished {
			if built {
				break
			}
			if err := s.build(ctx, user); err != nil {
				return nil, false, err
			}
			built = true
			continue
		}
		if cursor == noCursor {
			s.keepWarm(ctx, user, w)
		}
		stored := w.below(cursor)
		if len(stored.ids) >= want || stored.end || w.atEnd && len(stored.ids) > 0 {
			if cursor == noCursor {
				known.enough(w.spare(stored.ids, want))
			}
			s.metrics.merged(len(w.pulled))
			first.madeOf(w, cursor)
			return s.merge(ctx, stored, w.pulled, cursor, want)
		}
		if w.atEnd {
			break
		}
		count *= 4
	}
	first.untracked()
	authors, err := s.sources(ctx, user)
	if err != nil {
		return nil, false, err
	}
	s.metrics.pulls.Inc()
	return s.newest(ctx, authors, cursor, want)
}

// below returns what the window has below cursor, as far as it is sure to be
// complete but for the posts of the pulled authors.
//
// An entry can lie in front of a newer one, but only of one that is newer by less
// than the disorder; doc.go has the proof. So whatever lies deeper in the list, or
// was cut off, is older than any entry that was read plus the disorder. Of the last
// three the newest is taken, in case a push that hung in a connection landed there.
func (w window) below(cursor event.ID) part {
	p := part{end: w.state == whole && w.atEnd}
	if n := len(w.entries); !p.end && n > 0 {
		p.floor = shift(slices.Max(w.entries[max(0, n-3):]), disorder)
	}
	for _, id := range w.entries {
		if id >= p.floor && (cursor == noCursor || id < cursor) {
			p.ids = append(p.ids, id)
		}
	}
	p.ids = sortedUnique(p.ids)
	return p
}

// spare returns how many entries beyond those asked for would have done, and one
// more: what comes next may lie less far apart. It returns 0 if these were needed.
func (w window) spare(ids []event.ID, want int) int {
	if want < 1 || len(ids) < want {
		return 0
	}
	for n := max(want, 2) + 1; n < len(w.entries); n++ {
		if shift(slices.Max(w.entries[n-3:n]), disorder) <= ids[want-1] {
			return n - want + 1
		}
	}
	return 0
}

// read reads count entries of a stored feed, from the head or from a place that
// is surely above cursor.
func (s *redisStore) read(ctx context.Context, user string, known known, cursor event.ID, count int, first *reading) (window, error) {
	if cursor == noCursor {
		// Who has marks merges lists of which nobody tells.
		tracked := first != nil && len(known.pulled) == 0
		ask := s.ask
		if tracked {
			ask = s.askTracked
		}
		w, ok, err := s.readHead(ctx, ask, user, known, count)
		if err != nil && tracked && ctx.Err() == nil {
			tracked = false // one connection may fail where others do not
			w, ok, err = s.readHead(ctx, s.ask, user, known, count)
		}
		if ok || err != nil {
			w.tracked = tracked
			return w, err
		}
	}
	bound := ""
	if cursor != noCursor {
		bound = shift(cursor, disorder).String()
	}
	cmd := readScript.Strings(ctx, []string{feedKey(user), pulledKey(user), editionKey(user)}, bound, count)
	if err := s.ask(ctx, cmd); err != nil {
		return window{}, redisfault.Of(err, "read feed of %s", user)
	}
	w := parseWindow(cmd.Val())
	s.views.confirm(user, w, s.now())
	return w, nil
}

// asker is [redisStore.ask], or the same on another connection.
type asker func(ctx context.Context, cmds ...redis.Cmder) error

// readHead reads the newest entries with plain commands, at a third of what a
// script costs Redis. The edition before and after tells that the list was not
// built anew in between, and names never come again: so of a feed that was read
// before, two commands tell everything. Pushes and trims in between are harmless,
// since the entries alone tell whether the end was reached. It returns false if the
// edition has changed, or is missing.
func (s *redisStore) readHead(ctx context.Context, ask asker, user string, known known, count int) (window, bool, error) {
	if known.edition == nil || !s.lookedAt(known.at) {
		return s.readWholeHead(ctx, ask, user, count)
	}
	// Replies as they come: to make thirty strings of one took longer than to read it.
	entries := redis.NewRawCmd(ctx, "lrange", feedKey(user), 0, count-1)
	edition := redis.NewRawCmd(ctx, "get", editionKey(user))
	if err := ask(ctx, entries, edition); err != nil {
		return window{}, false, redisfault.Of(err, "read feed of %s", user)
	}
	l, isList := parseList(entries.Val())
	name, isName := parseString(edition.Val())
	if !isList || !isName || string(name) != known.name {
		return s.readWholeHead(ctx, ask, user, count)
	}
	w := window{edition: known.name, pulled: known.pulled, expires: s.cfg.ColdAfter}
	return w.with(l, count), true, nil
}

// readWholeHead does so for a feed that this process knows nothing of.
func (s *redisStore) readWholeHead(ctx context.Context, ask asker, user string, count int) (window, bool, error) {
	before := redis.NewStringCmd(ctx, "get", editionKey(user))
	entries := redis.NewStringSliceCmd(ctx, "lrange", feedKey(user), 0, count-1)
	pulled := redis.NewStringSliceCmd(ctx, "smembers", pulledKey(user))
	expires := redis.NewIntCmd(ctx, "pttl", feedKey(user))
	after := redis.NewStringCmd(ctx, "get", editionKey(user))
	if err := ask(ctx, before, entries, pulled, expires, after); err != nil {
		return window{}, false, redisfault.Of(err, "read feed of %s", user)
	}
	if before.Val() == "" || before.Val() != after.Val() {
		return window{}, false, nil
	}
	w := window{
		edition: after.Val(), pulled: pulled.Val(),
		expires: time.Duration(expires.Val()) * time.Millisecond,
	}
	w = w.with(listOf(entries.Val()), count)
	s.views.confirm(user, w, s.now())
	return w, true, nil
}

// with returns the window with the newest entries of its edition's list, count at
// most.
func (w window) with(l listed, count int) window {
	w.atEnd = l.length < count
	w.entries = l.ids
	switch {
	case l.length == 0:
		w.state = cold
	case strings.HasPrefix(w.edition, markerPrefix):
		w.state = unfinished
	case w.atEnd && l.whole:
		w.state = whole
	default:
		w.state = partial
	}
	return w
}

func parseWindow(reply []string) window {
	if len(reply) < 5 {
		return window{state: cold}
	}
	last, ttl, atEnd, entries := reply[0], reply[1], reply[2], reply[5:]
	w := window{state: partial, atEnd: atEnd == "1", edition: reply[3]}
	if n, err := strconv.Atoi(reply[4]); err == nil && n > 0 {
		w.pulled, entries = entries[:n], entries[n:]
	}
	w.entries = listOf(entries).ids
	switch {
	case last == sentinel:
		w.state = whole
	case strings.HasPrefix(last, markerPrefix):
		w.state = unfinished
	}
	if millis, err := strconv.ParseInt(ttl, 10, 64); err == nil {
		w.expires = time.Duration(millis) * time.Millisecond
	}
	return w
}

// lookedAt says whether a list whose expiry was looked at then needs no look yet:
// keepWarm puts it off when a tenth of its time has passed.
func (s *redisStore) lookedAt(then time.Time) bool { return s.now().Sub(then) <= s.cfg.ColdAfter/20 }

// keepWarm puts the expiry of a feed off that is being read, or makes it be built
// anew if it can do with fewer marks. A tenth of the time must have passed first: a
// write for each read would double the cost of reading.
func (s *redisStore) keepWarm(ctx context.Context, user string, w window) {
	if w.expires > s.cfg.ColdAfter*9/10 {
		return
	}
	if len(w.pulled) > 0 && s.outgrown(ctx, w.pulled) {
		_ = s.drop(ctx, user)
		return
	}
	// A failure costs a rebuild one day, no more.
	_ = s.exec(ctx, []redis.Cmder{redis.NewBoolCmd(ctx, "pexpire", feedKey(user), s.cfg.ColdAfter.Milliseconds())})
}
