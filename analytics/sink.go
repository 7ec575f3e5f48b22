package analytics

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
)

// mostRows is the most room that is made at once for the rows of a batch.
const mostRows = 50_000

// reasonRefused is why a row that ClickHouse does not take is in poison.
const reasonRefused = "refused"

// inserter puts rows [from, to) into the table, all or none, once a token.
type inserter interface {
	insert(ctx context.Context, token string, r block, from, to int) error
}

// poisoner puts one record of the batch whose context ctx is out of the way, and
// returns when it is safe.
type poisoner interface {
	PublishRecord(ctx context.Context, r record.Record, reason string, cause error) error
}

// sink turns a run of records into one insert. It answers for poison itself,
// record by record, because no layer above sees into a batch; what it returns is
// an outage, and means the whole batch again.
type sink struct {
	// slots bounds how many batches are worked on at once. One for each partition
	// would fill the memory at a catch-up, and keep neither us nor ClickHouse busier.
	slots chan struct{}
	// newBlock returns an empty block of the sink's table.
	newBlock    func() block
	store       inserter
	poison      poisoner
	log         *slog.Logger
	metrics     *metrics
	now         func() time.Time
	maxAttempts int

	undecodable *budget
	refused     *budget
	// failing is set while inserts fail, so that an outage is one line of the log.
	failing atomic.Bool
}

// handleBatch is the handler of the log: a message is a run of records.
func (s *sink) handleBatch(msg *message.Message) error {
	return s.write(msg.Context(), msg.Payload)
}

// handleSingle is the handler of the retry topic: a message is one record.
func (s *sink) handleSingle(msg *message.Message) error {
	origin := record.OriginOf(msg.Context())
	one := record.FromMessage(msg)
	one.Offset, one.Time = origin.Offset, origin.Time
	return s.write(msg.Context(), record.AppendBatch(nil, one))
}

// bad is a record that cannot be a row, and why.
type bad struct {
	record record.Record
	reason string
	cause  error
}

// write inserts a run of records, then poisons what could not be inserted. In
// this order an outage of ClickHouse publishes nothing, and a failing publish
// costs a repeat that ClickHouse drops.
func (s *sink) write(ctx context.Context, payload []byte) error {
	origin := record.OriginOf(ctx)
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	leave := sync.OnceFunc(func() { <-s.slots })
	defer leave()
	r := s.newBlock()
	defer r.release()
	// Gaps of the log may make the run look longer than it is.
	r.grow(int(min(origin.LastOffset-origin.Offset+1, mostRows)))

	undecodable, err := s.decode(ctx, payload, r)
	if err != nil {
		return err
	}
	if r.len() < smallInsert {
		leave() // it waits for company, and not in the way of others
	}
	var refused []bad
	if r.len() > 0 {
		if refused, err = s.insert(ctx, origin, r); err != nil {
			s.failed(origin, r, err)
			return err
		}
		s.inserted(origin, r, r.len()-len(refused))
	}
	accepted := r.len() - len(refused)
	if err := s.bury(ctx, s.undecodable, accepted, undecodable); err != nil {
		return err
	}
	return s.bury(ctx, s.refused, accepted, refused)
}

// decode fills r and returns the records that are no events of ours, or
// impossible ones. Unknown types are left out and counted.
func (s *sink) decode(ctx context.Context, payload []byte, r block) ([]bad, error) {
	origin := record.OriginOf(ctx)
	var undecodable []bad
	for rec, err := range record.Frames(payload) {
		if err != nil {
			return nil, fmt.Errorf("read batch %s: %w", origin, err)
		}
		switch err := addRecord(r, rec, origin); {
		case err == nil:
		case errors.Is(err, event.ErrUnknownType):
			s.metrics.unknown.Inc()
			s.log.DebugContext(ctx, "analytics: unknown event type skipped",
				"topic", origin.Topic, "partition", origin.Partition, "offset", rec.Offset, "err", err)
		default:
			reason := event.ReasonInvalid
			if f := fault.Of(err); f != nil && f.Reason != "" {
				reason = f.Reason
			}
			undecodable = append(undecodable, bad{rec.Frame.Record(), reason, err})
		}
	}
	return undecodable, nil
}

// addRecord decodes one record into r. A panic is held against this record: the
// recoverer around the handler could only hold it against the whole batch.
func addRecord(r block, rec record.Framed, origin record.Origin) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Poison(middleware.ReasonPanic, fmt.Errorf("panic: %v", p))
		}
	}()
	return r.take(rec, origin)
}

// insert writes all rows and returns those which ClickHouse refuses for what is
// in them. Any other failure is an outage.
func (s *sink) insert(ctx context.Context, origin record.Origin, r block) ([]bad, error) {
	search := search{sink: s, origin: origin, rows: r, limit: s.refused.most(r.len())}
	if err := search.insert(ctx, 0, r.len()); err != nil {
		return nil, fault.Outage(fmt.Sprintf("insert %s-%d", origin, origin.LastOffset), err)
	}
	return search.refused, nil
}

// search is one batch on its way in: whole, or by halves where rows are bad.
type search struct {
	sink    *sink
	origin  record.Origin
	rows    block
	limit   int // of refused rows; beyond it the table is at fault, not the rows
	refused []bad
}

// insert writes rows [from, to). If ClickHouse blames the data, it halves the
// range until single rows stand alone: the good ones are in, the bad ones found.
func (s *search) insert(ctx context.Context, from, to int) error {
	start := s.sink.now()
	err := s.sink.store.insert(ctx, token(s.origin, s.rows, from, to), s.rows, from, to)
	s.sink.metrics.insertSeconds.Observe(s.sink.now().Sub(start).Seconds())
	switch {
	case err == nil:
		s.sink.metrics.batches.WithLabelValues("inserted").Inc()
		return nil
	case ctx.Err() != nil || !s.blamesData(err):
		s.sink.metrics.batches.WithLabelValues("failed").Inc()
		return err
	}
	s.sink.metrics.batches.WithLabelValues("refused").Inc()
	if to-from > 1 {
		middle := from + (to-from)/2
		if err := s.insert(ctx, from, middle); err != nil {
			return err
		}
		return s.insert(ctx, middle, to)
	}
	s.refused = append(s.refused, bad{s.rows.record(from), reasonRefused, err})
	if len(s.refused) > s.limit {
		return fmt.Errorf("%d rows refused, which is too many to be their fault: %w", len(s.refused), err)
	}
	return nil
}

// blamesData says whether the rows are to be searched for a culprit. An error in
// no list waits first: most of them pass.
func (s *search) blamesData(err error) bool {
	switch blameOf(err) {
	case blameData:
		return true
	case blameUnknown:
		return s.origin.Attempt >= s.sink.maxAttempts
	default:
		return false
	}
}

// token names rows [from, to) for ClickHouse's memory of inserts: their place in
// the log, and a hash of their ids. The place alone would not do: offsets restart
// with a lost log, and a newer version of us may read more rows from the same
// place; ClickHouse drops other rows under a known token without a word.
func token(origin record.Origin, r block, from, to int) string {
	if origin.Topic == "" {
		return "" // from no log, so never again from the same place
	}
	hash := fnv.New64a()
	var id [8]byte
	for row := from; row < to; row++ {
		n := r.id(row)
		for i := range id {
			id[i] = byte(n >> (8 * i))
		}
		_, _ = hash.Write(id[:]) // never fails
	}
	return origin.TopicID + "/" + strconv.Itoa(int(origin.Partition)) + "/" +
		strconv.FormatInt(r.place(from), 10) + "-" + strconv.FormatInt(r.place(to-1), 10) +
		"/" + hex.EncodeToString(hash.Sum(nil))
}

// bury puts bad records to poison, if the budget allows it beside this many good
// ones. If not, we are the broken one, and the batch waits.
func (s *sink) bury(ctx context.Context, b *budget, good int, records []bad) error {
	if !b.settle(good, len(records)) {
		first := records[0]
		s.log.ErrorContext(ctx, "analytics: too much looks like poison; the batch is kept, this service may be broken",
			"records", len(records), "good", good, "offset", first.record.Offset, "reason", first.reason,
			"err", middleware.Clean(first.cause.Error(), middleware.MaxLetterError))
		return fault.Outage(fmt.Sprintf("poison of %d records: budget is empty", len(records)), first.cause)
	}
	for i, one := range records {
		if err := s.poison.PublishRecord(ctx, one.record, one.reason, one.cause); err != nil {
			b.refund(len(records) - i)
			return fmt.Errorf("poison offset %d: %w", one.record.Offset, err)
		}
	}
	return nil
}

// inserted notes a batch that is in.
func (s *sink) inserted(origin record.Origin, r block, n int) {
	s.metrics.rows.Add(float64(n))
	if origin.Topic == event.Topic { // what comes back from poison is old, and says nothing of our pace
		s.metrics.fresh(r.oldest(), s.now())
	}
	if s.failing.Swap(false) {
		s.log.Info("analytics: ClickHouse takes inserts again")
	}
}

// failed notes a batch that waits.
func (s *sink) failed(origin record.Origin, r block, err error) {
	if origin.Topic == event.Topic {
		s.metrics.stale(r.oldest())
	}
	if !s.failing.Swap(true) {
		s.log.Warn("analytics: ClickHouse takes no inserts; batches wait in the log", "err", err)
	}
}
