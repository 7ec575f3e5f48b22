package analytics

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// insertColumns are the columns of `events` in the order of rows.appendTo. The
// rest has defaults.
const insertColumns = "event_id, event_type, event_time, author_id, actor_id, target_id, post_id, media_count, " +
	"caption_length, mentions, notification_level, source, log_topic, log_partition, log_offset, log_id, original"

// Event times outside the life of our ids (internal/event: 41 bits of
// milliseconds from 2015) are impossible, and some of them overflow DateTime64.
var (
	firstTime = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(2085, 1, 1, 0, 0, 0, 0, time.UTC)
)

// rows holds events as columns, the form in which they travel to ClickHouse, so
// that a batch costs a few slices and no object a row. Slices are kept and used
// again: see rowsPool. Strings are parts of the payload.
type rows struct {
	eventID       []uint64
	eventType     []string
	eventTime     []int64 // milliseconds, as DateTime64(3) has them
	authorID      []string
	actorID       []string
	targetID      []string
	postID        []uint64
	mediaCount    []uint8
	captionLength []uint16
	mentions      []string // of all rows
	mentionsEnd   []uint32 // of each row in mentions
	level         []string
	source        []string
	logOffset     []int64
	original      []string

	// origin is the batch's: topic, partition and the topic's id are those of all rows.
	origin record.Origin
	// partitions is room for a column of the partition.
	partitions []int32

	// omitPosts is Config.OmitPosts.
	omitPosts bool
	// frames are where the rows came from, for poison: parts of the payload.
	frames []record.Frame
	// reader decodes.
	reader *event.Reader
}

// rowsPool keeps the columns of finished batches.
var rowsPool = sync.Pool{New: func() any { return new(rows) }}

func newRows() block {
	r, _ := rowsPool.Get().(*rows)
	r.omitPosts = false
	return r
}

// newBareRows is newRows for Config.OmitPosts.
func newBareRows() block {
	r, _ := rowsPool.Get().(*rows)
	r.omitPosts = true
	return r
}

func (r *rows) len() int                   { return len(r.eventID) }
func (r *rows) columns() string            { return insertColumns }
func (r *rows) id(i int) uint64            { return r.eventID[i] }
func (r *rows) place(i int) int64          { return r.logOffset[i] }
func (r *rows) record(i int) record.Record { return r.frames[i].Record() }
func (r *rows) oldest() time.Time          { return time.UnixMilli(slices.Min(r.eventTime)).UTC() }

func (r *rows) grow(n int) {
	r.eventID, r.eventType, r.eventTime = slices.Grow(r.eventID, n), slices.Grow(r.eventType, n), slices.Grow(r.eventTime, n)
	r.authorID, r.actorID, r.targetID = slices.Grow(r.authorID, n), slices.Grow(r.actorID, n), slices.Grow(r.targetID, n)
	r.postID, r.mediaCount, r.captionLength = slices.Grow(r.postID, n), slices.Grow(r.mediaCount, n), slices.Grow(r.captionLength, n)
	r.mentionsEnd, r.level, r.source = slices.Grow(r.mentionsEnd, n), slices.Grow(r.level, n), slices.Grow(r.source, n)
	r.logOffset, r.original, r.frames = slices.Grow(r.logOffset, n), slices.Grow(r.original, n), slices.Grow(r.frames, n)
}

func (r *rows) take(rec record.Framed, origin record.Origin) error {
	if r.reader == nil {
		r.reader = new(event.Reader)
	}
	e, err := r.reader.Read(rec.Record)
	if err != nil {
		return err
	}
	return r.add(e, rec, origin)
}

// earliest returns the first of some times.
func earliest(times []time.Time) time.Time {
	first := times[0]
	for _, t := range times[1:] {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

// possible says whether a time can be that of an event.
func possible(t time.Time) bool { return !t.Before(firstTime) && t.Before(lastTime) }

// release empties r and gives it back to the pool. Strings and payloads are
// cleared, since a pooled slice would keep them alive.
func (r *rows) release() {
	clear(r.authorID)
	clear(r.actorID)
	clear(r.targetID)
	clear(r.mentions)
	clear(r.source)
	clear(r.original)
	clear(r.frames)
	*r = rows{
		eventID:       r.eventID[:0],
		eventType:     r.eventType[:0],
		eventTime:     r.eventTime[:0],
		authorID:      r.authorID[:0],
		actorID:       r.actorID[:0],
		targetID:      r.targetID[:0],
		postID:        r.postID[:0],
		mediaCount:    r.mediaCount[:0],
		captionLength: r.captionLength[:0],
		mentions:      r.mentions[:0],
		mentionsEnd:   r.mentionsEnd[:0],
		level:         r.level[:0],
		source:        r.source[:0],
		logOffset:     r.logOffset[:0],
		original:      r.original[:0],
		partitions:    r.partitions[:0],
		frames:        r.frames[:0],
		reader:        r.reader,
	}
	rowsPool.Put(r)
}

// row is what is special about an event: the columns that depend on its type.
type row struct {
	author, actor, target string
	post                  string
	media                 int
	captionLength         int
	mentions              []string
	level                 string
	// whole says that the columns are not all there is to it.
	whole bool
}

// add appends the row of an event. An error means that the event can never be a
// row; nothing was appended then.
func (r *rows) add(e event.Event, rec record.Framed, origin record.Origin) error {
	if !possible(e.Time) {
		return fmt.Errorf("event time %s is not between %d and %d",
			e.Time.UTC().Format(time.RFC3339), firstTime.Year(), lastTime.Year())
	}
	row, err := rowOf(e)
	if err != nil {
		return err
	}
	var post uint64
	if row.post != "" {
		if post, err = strconv.ParseUint(row.post, 10, 64); err != nil {
			return fmt.Errorf("post_id: %w", errors.Unwrap(err)) // not the text itself
		}
	}
	r.eventID = append(r.eventID, uint64(e.ID))
	r.eventType = append(r.eventType, e.Type())
	r.eventTime = append(r.eventTime, e.Time.UnixMilli())
	r.authorID = append(r.authorID, row.author)
	r.actorID = append(r.actorID, row.actor)
	r.targetID = append(r.targetID, row.target)
	r.postID = append(r.postID, post)
	r.mediaCount = append(r.mediaCount, uint8(row.media))                // at most 20, event.proto
	r.captionLength = append(r.captionLength, uint16(row.captionLength)) // at most 2200
	r.mentions = append(r.mentions, row.mentions...)
	r.mentionsEnd = append(r.mentionsEnd, uint32(len(r.mentions))) // at most 20 a row
	r.level = append(r.level, row.level)
	r.source = append(r.source, e.Source)
	r.logOffset = append(r.logOffset, rec.Offset)
	r.origin = origin
	original := ""
	if row.whole && !r.omitPosts {
		original = record.Text(rec.Value)
	}
	r.original = append(r.original, original)
	r.frames = append(r.frames, rec.Frame)
	return nil
}

// rowOf reads an event as a row. A type that internal/event knows and this does
// not is a mistake of ours; the test over all types finds it.
func rowOf(e event.Event) (row, error) {
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		p := d.GetPhoto()
		return row{
			author: p.GetAuthorId(), actor: p.GetAuthorId(), post: p.GetPostId(), media: len(p.GetMedia()),
			captionLength: utf8.RuneCountInString(p.GetCaption()), mentions: p.GetMentions(), whole: true,
		}, nil
	case *pb.PhotoDeleted:
		return row{author: d.GetAuthorId(), actor: d.GetAuthorId(), post: d.GetPostId()}, nil
	case *pb.UserFollowed:
		return row{
			author: d.GetFolloweeId(), actor: d.GetFollowerId(), target: d.GetFolloweeId(),
			level: levelName(d.GetNotificationLevel()),
		}, nil
	case *pb.UserUnfollowed:
		return row{author: d.GetFolloweeId(), actor: d.GetFollowerId(), target: d.GetFolloweeId()}, nil
	case *pb.UserBlocked:
		return row{author: d.GetActorId(), actor: d.GetActorId(), target: d.GetTargetId()}, nil
	case *pb.UserUnblocked:
		return row{author: d.GetActorId(), actor: d.GetActorId(), target: d.GetTargetId()}, nil
	case *pb.UserMuted:
		return row{author: d.GetActorId(), actor: d.GetActorId(), target: d.GetTargetId()}, nil
	case *pb.UserUnmuted:
		return row{author: d.GetActorId(), actor: d.GetActorId(), target: d.GetTargetId()}, nil
	case *pb.UserSawFeed:
		return row{author: d.GetUserId(), actor: d.GetUserId(), post: d.GetPostId()}, nil
	}
	return row{}, fmt.Errorf("no row for %T", e.Data)
}

// levelName returns the level as analysts write it: "all".
func levelName(level pb.NotificationLevel) string {
	if level == pb.NotificationLevel_NOTIFICATION_LEVEL_UNSPECIFIED {
		return "default"
	}
	return strings.ToLower(strings.TrimPrefix(level.String(), "NOTIFICATION_LEVEL_"))
}

// appendTo appends rows [from, to) to an INSERT of insertColumns, column by column.
func (r *rows) appendTo(c *columns, from, to int) error {
	partitions := slices.Grow(r.partitions[:0], to-from)
	for range to - from {
		partitions = append(partitions, r.origin.Partition)
	}
	r.partitions = partitions
	begin := uint32(0)
	if from > 0 {
		begin = r.mentionsEnd[from-1]
	}
	ends := r.mentionsEnd[from:to]
	return errors.Join(
		c.append(0, r.eventID[from:to]),
		c.append(1, r.eventType[from:to]),
		c.append(2, r.eventTime[from:to]),
		c.append(3, r.authorID[from:to]),
		c.append(4, r.actorID[from:to]),
		c.append(5, r.targetID[from:to]),
		c.append(6, r.postID[from:to]),
		c.append(7, r.mediaCount[from:to]),
		c.append(8, r.captionLength[from:to]),
		c.appendLists(9, r.mentions[begin:ends[len(ends)-1]], begin, ends),
		c.append(10, r.level[from:to]),
		c.append(11, r.source[from:to]),
		c.repeat(12, r.origin.Topic, to-from),
		c.append(13, partitions),
		c.append(14, r.logOffset[from:to]),
		c.repeat(15, r.origin.TopicID, to-from),
		c.append(16, r.original[from:to]),
	)
}
