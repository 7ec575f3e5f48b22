package bench

import (
	"context"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// analyticsColumns are the columns of `events` that the sink writes, in the order
// of analyticsRows.
const analyticsColumns = "event_id, event_type, event_time, author_id, actor_id, target_id, post_id, media_count, " +
	"caption_length, mentions, notification_level, source, log_topic, log_partition, log_offset, log_id, original"

// analyticsRows is one batch of the driver, in memory.
type analyticsRows struct {
	eventID       []uint64
	eventType     []string
	eventTime     []time.Time
	authorID      []string
	actorID       []string
	targetID      []string
	postID        []uint64
	mediaCount    []uint8
	captionLength []uint16
	mentions      [][]string
	level         []string
	source        []string
	logTopic      []string
	logPartition  []int32
	logOffset     []int64
	logID         []string
	original      []string
}

// readBack reads what the sink wrote, in the order of the log, as batches.
func (b *analyticsBench) readBack(ctx context.Context) ([]*analyticsRows, error) {
	found, err := b.conn.Query(ctx, "SELECT "+analyticsColumns+" FROM bench_ours_0.events ORDER BY log_partition, log_offset LIMIT "+strconv.Itoa(b.cfg.Rows))
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	var all []*analyticsRows
	r := &analyticsRows{}
	for found.Next() {
		var (
			id, post                           uint64
			kind, author, actor, target, level string
			source, topic, logID, original     string
			at                                 time.Time
			media                              uint8
			caption                            uint16
			mentions                           []string
			partition                          int32
			offset                             int64
		)
		if err := found.Scan(&id, &kind, &at, &author, &actor, &target, &post, &media, &caption, &mentions, &level, &source, &topic, &partition, &offset, &logID, &original); err != nil {
			return nil, err
		}
		r.eventID, r.eventType, r.eventTime = append(r.eventID, id), append(r.eventType, kind), append(r.eventTime, at)
		r.authorID, r.actorID, r.targetID = append(r.authorID, author), append(r.actorID, actor), append(r.targetID, target)
		r.postID, r.mediaCount, r.captionLength = append(r.postID, post), append(r.mediaCount, media), append(r.captionLength, caption)
		r.mentions, r.level, r.source = append(r.mentions, mentions), append(r.level, level), append(r.source, source)
		r.logTopic, r.logPartition, r.logOffset = append(r.logTopic, topic), append(r.logPartition, partition), append(r.logOffset, offset)
		r.logID, r.original = append(r.logID, logID), append(r.original, original)
		if len(r.eventID) == analyticsBatch {
			all = append(all, r)
			r = &analyticsRows{}
		}
	}
	if len(r.eventID) > 0 {
		all = append(all, r)
	}
	return all, found.Err()
}

// byRow fills a batch as the driver's documentation shows first.
func (r *analyticsRows) byRow(batch driver.Batch) error {
	for i := range r.eventID {
		if err := batch.Append(r.eventID[i], r.eventType[i], r.eventTime[i], r.authorID[i], r.actorID[i], r.targetID[i], r.postID[i],
			r.mediaCount[i], r.captionLength[i], r.mentions[i], r.level[i], r.source[i], r.logTopic[i], r.logPartition[i], r.logOffset[i],
			r.logID[i], r.original[i]); err != nil {
			return err
		}
	}
	return nil
}

// byColumn fills a batch column by column, the driver's other way.
func (r *analyticsRows) byColumn(batch driver.Batch) error {
	for i, column := range []any{
		r.eventID, r.eventType, r.eventTime, r.authorID, r.actorID, r.targetID, r.postID,
		r.mediaCount, r.captionLength, r.mentions, r.level, r.source, r.logTopic, r.logPartition, r.logOffset, r.logID, r.original,
	} {
		if err := batch.Column(i).Append(column); err != nil {
			return err
		}
	}
	return nil
}
