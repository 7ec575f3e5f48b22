package analytics

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"activityfeed/internal/delivery"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// factColumns are the columns of `deliveries` in the order of facts.appendTo.
const factColumns = "fact_id, fact_type, service, accept_time, done_time, event_id, post_id, author_id, audience, written, " +
	"user_id, device_id, provider, reason, action, attempt, event_type, origin_topic, origin_partition, origin_offset, " +
	"log_topic, log_partition, log_offset"

// fact is a row of `deliveries`.
type fact struct {
	kind, service     string
	accepted          time.Time
	event, post       string
	author            string
	audience, written uint32
	user, device      string
	provider          string
	reason, action    string
	attempt           uint32
	eventType, topic  string
	partition         int32
	offset            int64
}

// facts holds delivery facts as columns; see rows.
type facts struct {
	factID    []uint64
	kind      []string
	service   []string
	accepted  []time.Time
	done      []time.Time
	eventID   []uint64
	postID    []uint64
	author    []string
	audience  []uint32
	written   []uint32
	user      []string
	device    []string
	provider  []string
	reason    []string
	action    []string
	attempt   []uint16
	eventType []string
	topic     []string
	partition []int32
	offset    []int64

	logTopic     []string
	logPartition []int32
	logOffset    []int64

	frames []record.Frame
}

var factsPool = sync.Pool{New: func() any { return new(facts) }}

func newFacts() block {
	f, _ := factsPool.Get().(*facts)
	return f
}

func (f *facts) len() int                   { return len(f.factID) }
func (f *facts) columns() string            { return factColumns }
func (f *facts) id(i int) uint64            { return f.factID[i] }
func (f *facts) place(i int) int64          { return f.logOffset[i] }
func (f *facts) record(i int) record.Record { return f.frames[i].Record() }
func (f *facts) oldest() time.Time          { return earliest(f.done) }

// grow does nothing: facts are few.
func (f *facts) grow(int) {}

// release drops what the slices hold: facts are some per post, not worth a list of
// what to clear.
func (f *facts) release() {
	*f = facts{}
	factsPool.Put(f)
}

func (f *facts) take(rec record.Framed, origin record.Origin) error {
	d, err := delivery.Decode(rec.Record)
	if err != nil {
		return err
	}
	one, err := factOf(d)
	if err != nil {
		return err
	}
	if !possible(one.accepted) || !possible(d.Time) {
		return fmt.Errorf("a time of %s is not between %d and %d", d.Type(), firstTime.Year(), lastTime.Year())
	}
	event, err := number("event_id", one.event)
	if err != nil {
		return err
	}
	post, err := number("post_id", one.post)
	if err != nil {
		return err
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(d.Name)) // never fails
	f.factID = append(f.factID, name.Sum64())
	f.kind, f.service = append(f.kind, d.Type()), append(f.service, one.service)
	f.accepted, f.done = append(f.accepted, one.accepted), append(f.done, d.Time)
	f.eventID, f.postID, f.author = append(f.eventID, event), append(f.postID, post), append(f.author, one.author)
	f.audience, f.written = append(f.audience, one.audience), append(f.written, one.written)
	f.user, f.device, f.provider = append(f.user, one.user), append(f.device, one.device), append(f.provider, one.provider)
	f.reason, f.action = append(f.reason, one.reason), append(f.action, one.action)
	f.attempt = append(f.attempt, uint16(min(one.attempt, 65535)))
	f.eventType, f.topic = append(f.eventType, one.eventType), append(f.topic, one.topic)
	f.partition, f.offset = append(f.partition, one.partition), append(f.offset, one.offset)
	f.logTopic, f.logPartition, f.logOffset = append(f.logTopic, origin.Topic), append(f.logPartition, origin.Partition), append(f.logOffset, rec.Offset)
	f.frames = append(f.frames, rec.Frame)
	return nil
}

// factOf reads a delivery fact as a row.
func factOf(d delivery.Fact) (fact, error) {
	switch data := d.Data.(type) {
	case *pb.FanoutDone:
		return fact{
			kind: d.Type(), service: data.GetService(), accepted: data.GetAcceptTime().AsTime(),
			event: data.GetEventId(), post: data.GetPostId(), author: data.GetAuthorId(),
			audience: data.GetAudience(), written: data.GetWritten(),
		}, nil
	case *pb.PushOutcome:
		return fact{
			kind: d.Type(), service: "notify", accepted: data.GetAcceptTime().AsTime(),
			event: data.GetEventId(), user: data.GetUserId(), device: data.GetDeviceId(), provider: data.GetProvider(),
			reason: data.GetReason(), action: data.GetAction(), attempt: data.GetAttempt(),
		}, nil
	case *pb.Poisoned:
		return fact{
			kind: d.Type(), service: data.GetService(), accepted: data.GetRecordTime().AsTime(), reason: data.GetReason(),
			eventType: data.GetEventType(), topic: data.GetTopic(), partition: data.GetPartition(), offset: data.GetOffset(),
		}, nil
	}
	return fact{}, fmt.Errorf("no row for %T", d.Data)
}

// number reads an id; none is 0.
func number(field, id string) (uint64, error) {
	if id == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", field, errors.Unwrap(err)) // not the text itself
	}
	return n, nil
}

func (f *facts) appendTo(c *columns, from, to int) error {
	for i, column := range []any{
		f.factID[from:to], f.kind[from:to], f.service[from:to], f.accepted[from:to], f.done[from:to],
		f.eventID[from:to], f.postID[from:to], f.author[from:to], f.audience[from:to], f.written[from:to],
		f.user[from:to], f.device[from:to], f.provider[from:to], f.reason[from:to], f.action[from:to], f.attempt[from:to],
		f.eventType[from:to], f.topic[from:to], f.partition[from:to], f.offset[from:to],
		f.logTopic[from:to], f.logPartition[from:to], f.logOffset[from:to],
	} {
		if err := c.append(i, column); err != nil {
			return err
		}
	}
	return nil
}
