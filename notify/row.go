package notify

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// row is one notification. Its id is the event's, so an event that comes twice
// makes the same row.
type row struct {
	id    event.ID
	kind  pb.NotificationType
	actor string
	// post is what it is about; 0 for a follow.
	post event.ID
	// read says whether the user has read it, seen whether they saw it in the list.
	read, seen bool
	// newest is set on a row that came late: the newest id that the inbox had then.
	newest event.ID
}

// A stored row is, in this order:
//
//	8 bytes  id, big-endian, so that bytes sort as ids do
//	1 byte   flags
//	1 byte   kind
//	8 bytes  newest, if the row is late
//	varint   post minus id, unless it is a follow: ids of one command differ little
//	the rest actor
//
// That is about 20 bytes, and 27 in the memory of Redis; the same row as a member
// of a sorted set takes 132. lua/rows.lua and lua/mark.lua know the first ten
// bytes and what flagLate inserts.
const (
	flagRead   = 1
	flagLate   = 2
	flagSeen   = 4
	headerSize = 10
)

var errRow = errors.New("notify: malformed row")

// encode returns the stored form. Rows are written unread and in time; the
// scripts set the flags.
func (r row) encode() string {
	b := appendID(make([]byte, 0, headerSize+binary.MaxVarintLen64+len(r.actor)), r.id)
	b = append(b, 0, byte(r.kind))
	if r.kind != pb.NotificationType_NOTIFICATION_TYPE_FOLLOW {
		b = binary.AppendVarint(b, int64(r.post-r.id))
	}
	return string(append(b, r.actor...))
}

func decodeRow(s string) (row, error) {
	b := []byte(s)
	if len(b) < headerSize {
		return row{}, errRow
	}
	r := row{id: readID(b), read: b[8]&flagRead != 0, seen: b[8]&flagSeen != 0, kind: pb.NotificationType(b[9])}
	late := b[8]&flagLate != 0
	b = b[headerSize:]
	if late {
		if len(b) < idSize {
			return row{}, errRow
		}
		r.newest, b = readID(b), b[idSize:]
	}
	switch r.kind {
	case pb.NotificationType_NOTIFICATION_TYPE_POST, pb.NotificationType_NOTIFICATION_TYPE_MENTION:
		delta, n := binary.Varint(b)
		if n <= 0 {
			return row{}, errRow
		}
		r.post, b = r.id+event.ID(delta), b[n:]
	case pb.NotificationType_NOTIFICATION_TYPE_FOLLOW:
	default:
		return row{}, errRow
	}
	if len(b) == 0 {
		return row{}, errRow
	}
	r.actor = string(b)
	return r, nil
}

// message returns what the API shows.
func (r row) message() *pb.Notification {
	n := &pb.Notification{
		NotificationId: r.id.String(),
		Type:           r.kind,
		ActorId:        r.actor,
		CreateTime:     timestamppb.New(r.id.Time()),
		Read:           r.read,
		Seen:           r.seen,
	}
	if r.post != 0 {
		n.PostId = r.post.String()
	}
	return n
}

const idSize = 8

func appendID(b []byte, id event.ID) []byte { return binary.BigEndian.AppendUint64(b, uint64(id)) }

func readID(b []byte) event.ID { return event.ID(binary.BigEndian.Uint64(b)) }
