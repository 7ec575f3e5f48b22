package event

import (
	"bytes"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// Reader decodes records one after the other, as [Decode] does messages, for who
// goes through very many and keeps little of each: an event is valid until the next
// one is read, and so is its Data; strings in it are parts of the record's value, and
// hold for as long as that is not written to. The plain facts are
// read by hand (wire.go) into messages that are used again; what that does not
// understand goes the usual way. Taking each apart into a new message was a third of
// the time of a row on its way to ClickHouse. The zero value is ready; it is not for
// concurrent use.
type Reader struct {
	kinds, sources interned
	clock          clock

	posted     pb.PhotoPosted
	photo      pb.Photo
	created    timestamppb.Timestamp
	media      []*pb.Media
	mentions   []string
	deleted    pb.PhotoDeleted
	followed   pb.UserFollowed
	unfollowed pb.UserUnfollowed
	blocked    pb.UserBlocked
	unblocked  pb.UserUnblocked
	muted      pb.UserMuted
	unmuted    pb.UserUnmuted
	saw        pb.UserSawFeed
}

// Read returns the event of a record. Its errors are those of [Decode].
func (r *Reader) Read(rec record.Record) (Event, error) {
	var id, at, key []byte
	var kind, source string
	for _, h := range rec.Headers {
		switch h.Name { // the last one of a name counts
		case record.IDHeader:
			id = h.Value
		case headerType:
			kind = r.kinds.of(h.Value)
		case headerSource:
			source = r.sources.of(h.Value)
		case headerTime:
			at = h.Value
		case headerIdempotencyKey:
			key = h.Value
		}
	}
	e := Event{Source: source}
	if len(key) > 0 {
		e.IdempotencyKey = string(key)
	}
	var ok bool
	if e.ID, ok = plainID(id); ok {
		if e.Time, ok = r.clock.read(at); ok {
			if e.Data = r.fill(kind, record.Text(rec.Value)); e.Data != nil && plain(e.Data) {
				return e, nil
			}
		}
	}
	// The words of what is wrong, if anything, come from one place.
	return decode(attributes{id: string(id), kind: kind, source: source, time: string(at), idempotencyKey: string(key)}, rec.Value)
}

// clock reads times as RFC 3339 has them, in UTC. It remembers the last day: what comes
// after each other is mostly of one.
type clock struct {
	day      [len(time.DateOnly)]byte
	midnight int64 // of the day, in seconds; the day is not set while it is zero
}

// read is time.Time.UnmarshalText.
func (c *clock) read(text []byte) (at time.Time, ok bool) {
	if c.midnight == 0 || !bytes.HasPrefix(text, c.day[:]) {
		if err := at.UnmarshalText(text); err != nil {
			return time.Time{}, false
		}
		if at.Location() == time.UTC && bytes.HasSuffix(text, []byte("Z")) {
			copy(c.day[:], text)
			hour, minute, second := at.Clock()
			c.midnight = at.Unix() - int64(3600*hour+60*minute+second)
		}
		return at, true
	}
	// T15:04:05.999999999Z
	rest := text[len(c.day):]
	seconds, ok := timeOfDay(rest)
	if !ok || rest[len(rest)-1] != 'Z' {
		return at, at.UnmarshalText(text) == nil
	}
	nanos := int64(0)
	if fraction := rest[9 : len(rest)-1]; len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) < 2 || len(fraction) > 10 {
			return at, at.UnmarshalText(text) == nil
		}
		scale := int64(time.Second)
		for _, digit := range fraction[1:] {
			if digit < '0' || digit > '9' {
				return at, at.UnmarshalText(text) == nil
			}
			scale /= 10
			nanos += int64(digit-'0') * scale
		}
	}
	return time.Unix(c.midnight+seconds, nanos).UTC(), true
}

// timeOfDay reads the "T15:04:05" with which text begins, before one more byte at least.
func timeOfDay(text []byte) (seconds int64, ok bool) {
	if len(text) < 10 || text[0] != 'T' || text[3] != ':' || text[6] != ':' {
		return 0, false
	}
	for i, unit := range [3]struct{ most, seconds int64 }{{23, 3600}, {59, 60}, {59, 1}} {
		tens, ones := text[3*i+1]-'0', text[3*i+2]-'0'
		n := 10*int64(tens) + int64(ones)
		if tens > 9 || ones > 9 || n > unit.most {
			return 0, false
		}
		seconds += n * unit.seconds
	}
	return seconds, true
}

// plainID reads an id of 19 digits.
func plainID(b []byte) (ID, bool) {
	if len(b) != 19 {
		return 0, false
	}
	var n uint64 // 19 nines fit
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return ID(n), n >= uint64(minID) && n <= 1<<63-1
}

// fill reads a payload into the message of its kind. It returns nil if it does not
// understand all of it.
func (r *Reader) fill(kind, payload string) proto.Message {
	switch kind {
	case typePrefix + "PhotoPosted":
		return r.fillPosted(payload)
	case typePrefix + "PhotoDeleted":
		d := &r.deleted
		if readPair(payload, &d.AuthorId, &d.PostId, nil) {
			return d
		}
	case typePrefix + "UserFollowed":
		var level uint64
		d := &r.followed
		if readPair(payload, &d.FollowerId, &d.FolloweeId, &level) {
			d.NotificationLevel = pb.NotificationLevel(level)
			return d
		}
	case typePrefix + "UserUnfollowed":
		d := &r.unfollowed
		if readPair(payload, &d.FollowerId, &d.FolloweeId, nil) {
			return d
		}
	case typePrefix + "UserBlocked":
		d := &r.blocked
		if readPair(payload, &d.ActorId, &d.TargetId, nil) {
			return d
		}
	case typePrefix + "UserUnblocked":
		d := &r.unblocked
		if readPair(payload, &d.ActorId, &d.TargetId, nil) {
			return d
		}
	case typePrefix + "UserMuted":
		d := &r.muted
		if readPair(payload, &d.ActorId, &d.TargetId, nil) {
			return d
		}
	case typePrefix + "UserUnmuted":
		d := &r.unmuted
		if readPair(payload, &d.ActorId, &d.TargetId, nil) {
			return d
		}
	case typePrefix + "UserSawFeed":
		d := &r.saw
		if readPair(payload, &d.UserId, &d.PostId, nil) {
			return d
		}
	}
	return nil
}

func (r *Reader) fillPosted(payload string) proto.Message {
	f := fields{rest: payload}
	// One photo and nothing else: a second one would have to be merged into the first.
	if !f.next() || f.number != 1 || !f.isBytes || !f.done() || !r.fillPhoto(f.bytes) {
		return nil
	}
	r.posted.Photo = &r.photo
	return &r.posted
}

func (r *Reader) fillPhoto(s string) bool {
	p := &r.photo
	p.PostId, p.AuthorId, p.Caption, p.CreateTime = "", "", "", nil
	media, mentions := r.media[:0], r.mentions[:0]
	f := fields{rest: s}
	for f.next() {
		if !f.isBytes {
			return false
		}
		switch f.number {
		case 1:
			p.PostId = f.bytes
		case 2:
			p.AuthorId = f.bytes
		case 3:
			var m *pb.Media
			if n := len(media); n < cap(media) && media[:n+1][n] != nil {
				m = media[:n+1][n]
			} else {
				m = new(pb.Media)
			}
			media = append(media, m)
			if !fillMedia(m, f.bytes) {
				return false
			}
			continue // its strings are looked at where they are
		case 4:
			p.Caption = f.bytes
		case 5:
			mentions = append(mentions, f.bytes)
		case 6:
			if p.GetCreateTime() != nil || !fillTime(&r.created, f.bytes) {
				return false
			}
			p.CreateTime = &r.created
			continue
		default:
			return false
		}
		if !f.isText() {
			return false
		}
	}
	p.Media, p.Mentions = media, mentions
	r.media, r.mentions = media, mentions
	return f.done()
}

func fillMedia(m *pb.Media, s string) bool {
	m.Url, m.Width, m.Height, m.Blurhash, m.AltText = "", 0, 0, "", ""
	f := fields{rest: s}
	for f.next() {
		switch {
		case f.number == 1 && f.isText():
			m.Url = f.bytes
		case f.number == 2 && f.isSmall():
			m.Width = int32(f.varint)
		case f.number == 3 && f.isSmall():
			m.Height = int32(f.varint)
		case f.number == 4 && f.isText():
			m.Blurhash = f.bytes
		case f.number == 5 && f.isText():
			m.AltText = f.bytes
		default:
			return false
		}
	}
	return f.done()
}

func fillTime(t *timestamppb.Timestamp, s string) bool {
	t.Seconds, t.Nanos = 0, 0
	f := fields{rest: s}
	for f.next() {
		switch {
		case f.number == 1 && !f.isBytes:
			t.Seconds = int64(f.varint)
		case f.number == 2 && f.isSmall() && f.varint < uint64(time.Second):
			t.Nanos = int32(f.varint)
		default:
			return false
		}
	}
	return f.done()
}
