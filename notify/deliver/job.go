package deliver

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"activityfeed/internal/event"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

// Row is one notification as far as a push has to know it.
type Row struct {
	ID    event.ID
	Kind  pb.NotificationType
	Actor string
	// Post is 0 for a follow.
	Post event.ID
}

// group is what is told in one push: the posts of an author, the mentions in a
// post, the follows. The badge is a group without rows.
type group struct {
	kind  pb.NotificationType
	actor string
	post  event.ID
}

func groupOf(r Row) group {
	switch r.Kind {
	case pb.NotificationType_NOTIFICATION_TYPE_POST:
		return group{kind: r.Kind, actor: r.Actor}
	case pb.NotificationType_NOTIFICATION_TYPE_MENTION:
		return group{kind: r.Kind, actor: r.Actor, post: r.Post}
	default:
		return group{kind: r.Kind}
	}
}

// key is the collapse key, and names the group in ids.
func (g group) key() string {
	switch g.kind {
	case pb.NotificationType_NOTIFICATION_TYPE_UNSPECIFIED:
		return "badge"
	case pb.NotificationType_NOTIFICATION_TYPE_POST:
		return "post:" + g.actor
	case pb.NotificationType_NOTIFICATION_TYPE_MENTION:
		return "mention:" + g.actor + ":" + g.post.String()
	default:
		return strings.ToLower(strings.TrimPrefix(g.kind.String(), "NOTIFICATION_TYPE_"))
	}
}

var errJob = errors.New("deliver: malformed job")

// encodeRow is an item of a tell job: id, post and kind, then the actor.
func encodeRow(r Row) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(r.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Post))
	return append(append(b, byte(r.Kind)), r.Actor...)
}

func decodeRow(b []byte) (Row, error) {
	if len(b) < 17 {
		return Row{}, errJob
	}
	return Row{
		ID: event.ID(binary.BigEndian.Uint64(b)), Post: event.ID(binary.BigEndian.Uint64(b[8:])),
		Kind: pb.NotificationType(b[16]), Actor: string(b[17:]),
	}, nil
}

// tellID names the tell job of a person and group; user ids hold no bar.
func tellID(user string, g group) string { return user + "|" + g.key() }

// job is one push to one device. It is stored as JSON, and so lies in letters.
type job struct {
	User   string `json:"user"`
	Device string `json:"device"`
	// Kind, Actor and Post are the group.
	Kind  int32  `json:"kind,omitempty"`
	Actor string `json:"actor,omitempty"`
	Post  int64  `json:"post,omitempty"`
	// Events caused the push. If none of them is to be told any more, neither is it.
	Events []int64 `json:"events,omitempty"`
	// Expires is when it is too late, in ms.
	Expires int64 `json:"expires"`
	// Attempt counts those that failed.
	Attempt int `json:"attempt,omitempty"`
	// Reason is what the last attempt failed of.
	Reason string `json:"reason,omitempty"`
}

func (j job) group() group {
	return group{kind: pb.NotificationType(j.Kind), actor: j.Actor, post: event.ID(j.Post)}
}

func (j job) badge() bool { return j.Kind == 0 }

func (j job) expires() time.Time { return time.UnixMilli(j.Expires) }

// id names the push: the same events are the same push, however often it is made.
func (j job) id() string {
	newest := int64(0)
	for _, e := range j.Events {
		newest = max(newest, e)
	}
	return j.Device + "|" + j.User + "|" + j.group().key() + "|" + strconv.FormatInt(newest, 36) + "|" + strconv.Itoa(len(j.Events))
}

func (j job) encode() []byte {
	b, err := json.Marshal(j)
	if err != nil {
		panic(fmt.Sprintf("deliver: a job is not JSON: %v", err)) // strings and numbers
	}
	return b
}

func decodeJob(items [][]byte) (job, error) {
	var j job
	if len(items) == 0 {
		return j, errJob
	}
	if err := json.Unmarshal(items[0], &j); err != nil || j.User == "" || j.Device == "" {
		return j, errJob
	}
	return j, nil
}

// Letter is a push that was given up.
type Letter struct {
	// ID is unique to the push and sorts by the time of its newest event.
	ID event.ID
	// User and Device say whom it was for.
	User, Device string
	// Reason is why the last attempt failed.
	Reason push.Reason
	// Attempts is how many there were.
	Attempts int
	// Body is for [Deliverer.Replay].
	Body []byte
}
