package kafka

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/record"
)

// dispatch hands out what is ready.
func (s *subscription) dispatch() {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for s.ctx.Err() == nil {
		now := time.Now()
		s.mu.Lock()
		d := s.window.next(now)
		due, ok := s.window.due()
		if s.window.ready == 0 {
			signal(s.wakePoll) // a poll may have waited for the work to run out
		}
		s.wakeCommitter()
		s.mu.Unlock()
		if d != nil {
			s.send(d)
			continue
		}
		if ok {
			alarm.Reset(due.Sub(now))
		} else {
			alarm.Stop()
		}
		select {
		case <-s.wakeDispatch:
		case <-alarm.C:
		case <-s.ctx.Done():
		}
	}
}

// send hands a delivery out as a new message; the record is decoded again each
// time, so that what a handler did to an earlier message is gone.
func (s *subscription) send(d *delivery) {
	msg, end := d.message(s.topic)
	select {
	case s.out <- msg:
		s.metrics.delivered.Inc()
		s.hand().work <- handful{d, msg, end}
		return
	case <-d.part.stop:
	case <-s.ctx.Done():
	}
	end()
	s.mu.Lock()
	s.window.unsend(d)
	s.mu.Unlock()
}

// message makes the next message of a delivery and the function that ends its
// context.
func (d *delivery) message(topic string) (*message.Message, context.CancelFunc) {
	p := d.part
	origin := record.Origin{
		Topic:      topic,
		TopicID:    p.topicName,
		Partition:  p.id,
		Offset:     d.first,
		LastOffset: d.last,
		Time:       d.at,
		Attempt:    d.attempts,
	}
	var msg *message.Message
	if p.batcher != nil {
		msg = d.batchMessage(topic)
	} else {
		msg = consumed(d.record).Message()
	}
	ctx, cancel := context.WithCancel(record.WithOrigin(p.ctx, origin))
	msg.SetContext(ctx)
	return msg, cancel
}

// consumed returns the record as the rest of the program knows it.
func consumed(r *kgo.Record) record.Record {
	return consumedInto(make([]record.Header, 0, len(r.Headers)), r)
}

// consumedInto is consumed with the headers appended to a slice.
func consumedInto(headers []record.Header, r *kgo.Record) record.Record {
	for _, h := range r.Headers {
		headers = append(headers, record.Header{Name: h.Key, Value: h.Value})
	}
	return record.Record{Key: r.Key, Value: r.Value, Headers: headers, Offset: r.Offset, Time: r.Timestamp}
}
