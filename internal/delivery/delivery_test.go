package delivery_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

var someTime = time.Date(2026, 11, 22, 10, 20, 30, 456e6, time.UTC)

const someID event.ID = 1_571_000_000_000_000_000

func someFacts() []delivery.Fact {
	return []delivery.Fact{
		delivery.Fanout("feed", someID, someTime, &pb.Photo{PostId: "1570000000000000000", AuthorId: "ann"}, 7, 5, someTime.Add(time.Second)),
		delivery.Push(&pb.PushOutcome{EventId: "1571000000000000000", UserId: "bob", DeviceId: "d1", Provider: "fcm", Reason: "gone", Action: "prune", Attempt: 2, AcceptTime: timestamppb.New(someTime)}, someTime),
		delivery.Poisoned("notify", "invalid", "activityfeed.v1.PhotoPosted\xff", record.Origin{Topic: "activity", TopicID: "t1", Partition: 3, Offset: 9, Time: someTime}, someTime),
	}
}

func TestFactsSurviveTheLog(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, want := range someFacts() {
		msg, err := delivery.Encode(want, "node-1")
		if err != nil {
			t.Fatal(err)
		}
		if !delivery.Is(msg) {
			t.Errorf("Is(%s) = false", want.Type())
		}
		got, err := delivery.Decode(record.FromMessage(msg))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("Decode(Encode(%s)) (-want +got):\n%s", want.Type(), diff)
		}
		names[want.Name] = true
	}
	if len(names) != len(someFacts()) {
		t.Errorf("names are not unique: %v", names)
	}
}

func TestDecodeTellsPoisonFromNews(t *testing.T) {
	t.Parallel()
	header := func(kind, at, id string) []record.Header {
		return []record.Header{{Name: "ce_type", Value: []byte(kind)}, {Name: "ce_time", Value: []byte(at)}, {Name: "ce_id", Value: []byte(id)}}
	}
	const at = "2026-11-22T10:20:30Z"
	for _, tt := range []struct {
		name   string
		r      record.Record
		reason string // empty: an unknown type
	}{
		{"a newer type", record.Record{Headers: header("activityfeed.v1.Later", at, "x")}, ""},
		{"no type", record.Record{}, "undecodable"},
		{"no time", record.Record{Headers: header("activityfeed.v1.FanoutDone", "", "x")}, "invalid"},
		{"no name", record.Record{Headers: header("activityfeed.v1.FanoutDone", at, "")}, "invalid"},
		{"bad bytes", record.Record{Headers: header("activityfeed.v1.FanoutDone", at, "x"), Value: []byte{0xff}}, "undecodable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := delivery.Decode(tt.r)
			switch f := fault.Of(err); {
			case tt.reason == "" && !errors.Is(err, event.ErrUnknownType):
				t.Errorf("Decode = %v, want an unknown type", err)
			case tt.reason != "" && (f == nil || f.Reason != tt.reason):
				t.Errorf("Decode = %v, want reason %q", err, tt.reason)
			}
		})
	}
}

// topic is a log in memory, which may be away.
type topic struct {
	mu   sync.Mutex
	away bool
	got  []string
}

func (p *topic) PublishContext(_ context.Context, _ string, messages ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return errors.New("away")
	}
	for _, msg := range messages {
		p.got = append(p.got, msg.UUID)
	}
	return nil
}

func (p *topic) set(away bool) { p.mu.Lock(); defer p.mu.Unlock(); p.away = away }
func (p *topic) len() int      { p.mu.Lock(); defer p.mu.Unlock(); return len(p.got) }

func fanout(n int) delivery.Fact {
	return delivery.Fanout("feed", someID+event.ID(n), someTime, &pb.Photo{}, 0, 0, someTime)
}

func TestReporterWaitsForTheLogAndNotTheService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &topic{away: true}
		reg := prometheus.NewRegistry()
		r := delivery.NewReporter(delivery.Config{Queue: 10, Batch: 4, Wait: time.Second}, log, slog.New(slog.DiscardHandler), reg)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		start := time.Now()
		for n := range 4 {
			r.Report(fanout(n))
		}
		synctest.Wait() // a batch is at the door
		for n := range 13 {
			r.Report(fanout(4 + n)) // ten wait, three are too many
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Report took %v", took)
		}
		log.set(false)
		time.Sleep(time.Minute)
		if got := log.len(); got != 14 {
			t.Errorf("%d facts on the log, want 14", got)
		}
		r.Report(fanout(99))
		stop() // what waits is written first
		if err := <-ended; err != nil || log.len() != 15 {
			t.Errorf("Run = %v with %d facts on the log, want nil and 15", err, log.len())
		}
		want := 3.0
		if got := counted(t, reg, "activityfeed_delivery_facts_dropped_total"); got != want {
			t.Errorf("dropped = %v, want %v", got, want)
		}
		var none *delivery.Reporter
		none.Report(fanout(0)) // nobody asks
	})
}

// counted returns a counter of a registry.
func counted(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}
