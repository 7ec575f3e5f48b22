package analytics

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/record"
)

// The sink against what it stands on: the same rows by clickhouse-go alone, row
// by row as its documentation shows, without a log, a decode or a token. Run both:
//
//	go test ./analytics -run xxx -bench Rows -benchtime 50x
const benchRows = 10_000

// benchEvents are a third posts and two thirds follows.
func benchEvents() []event.Event {
	all := make([]event.Event, benchRows)
	for n := range all {
		user, other := "user"+strconv.Itoa(n*7919%5000), "user"+strconv.Itoa(n*104729%5000)
		if n%3 == 0 {
			all[n] = photo(n, user)
		} else {
			all[n] = follow(n, user, other)
		}
	}
	return all
}

func BenchmarkRowsBySink(b *testing.B) {
	table := newTable(b)
	s, _ := newSink(b, table.store())
	payload := batchOf(b, 1, recordsOf(b, 0, benchEvents()...)...).Payload
	var offset atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			first := offset.Add(benchRows)
			msg := message.NewMessage("", payload)
			// Another place each time, or the token would drop it.
			msg.SetContext(record.WithOrigin(b.Context(), record.Origin{
				Topic: event.Topic, TopicID: strconv.FormatInt(first, 10), Offset: first, LastOffset: first + benchRows - 1, Attempt: 1,
			}))
			if err := s.handleBatch(msg); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkRowsByDriver(b *testing.B) {
	table := newTable(b)
	r := &rows{}
	for i, e := range benchEvents() {
		if err := r.add(e, record.Framed{Record: record.Record{Offset: int64(i)}}, record.Origin{Topic: event.Topic}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := table.insertPlainly(b.Context(), r); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

func (tt *testTable) insertPlainly(ctx context.Context, r *rows) error {
	batch, err := tt.conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings(""))),
		"INSERT INTO "+tt.cfg.Database+".events ("+insertColumns+")")
	if err != nil {
		return err
	}
	defer batch.Close()
	begin := uint32(0)
	for i := range r.len() {
		if err := batch.Append(
			r.eventID[i], r.eventType[i], r.eventTime[i], r.authorID[i], r.actorID[i], r.targetID[i], r.postID[i], r.mediaCount[i],
			r.captionLength[i], r.mentions[begin:r.mentionsEnd[i]], r.level[i], r.source[i], r.origin.Topic, r.origin.Partition, r.logOffset[i],
			r.origin.TopicID, r.original[i],
		); err != nil {
			return err
		}
		begin = r.mentionsEnd[i]
	}
	return batch.Send()
}

// BenchmarkDecode is what a row costs before it travels.
func BenchmarkDecode(b *testing.B) {
	s, _ := newSink(b, discard{})
	payload := batchOf(b, 1, recordsOf(b, 0, benchEvents()...)...).Payload
	b.ReportAllocs()
	for b.Loop() {
		msg := message.NewMessage("", payload)
		msg.SetContext(record.WithOrigin(b.Context(), record.Origin{Topic: event.Topic, TopicID: "t", LastOffset: benchRows - 1, Attempt: 1}))
		if err := s.handleBatch(msg); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

// discard takes every insert.
type discard struct{}

func (discard) insert(context.Context, string, block, int, int) error { return nil }
