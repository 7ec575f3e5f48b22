package analytics

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/record"
	pb "activityfeed/proto/activityfeed/v1"
)

// factRecords puts facts on a partition of the topic deliveries.
func factRecords(t testing.TB, offset int64, all ...delivery.Fact) []record.Record {
	t.Helper()
	records := make([]record.Record, 0, len(all))
	for i, f := range all {
		msg, err := delivery.Encode(f, "//host/activityfeed/0")
		if err != nil {
			t.Fatal(err)
		}
		r := record.FromMessage(msg)
		r.Offset, r.Time = offset+int64(i), f.Time
		records = append(records, r)
	}
	return records
}

func fanoutFact(n, audience int, after time.Duration) delivery.Fact {
	e := photo(n, "ann")
	data, _ := e.Data.(*pb.PhotoPosted)
	return delivery.Fanout("feed", e.ID, e.Time, data.GetPhoto(), audience, audience, e.Time.Add(after))
}

func pushFact(n int, provider, reason string) delivery.Fact {
	e := photo(n, "ann")
	return delivery.Push(&pb.PushOutcome{
		EventId: e.ID.String(), UserId: "bob", DeviceId: "d1", Provider: provider, Reason: reason, Action: "ok",
		Attempt: 1, AcceptTime: timestamppb.New(e.Time),
	}, e.Time)
}

// Facts come again, later, with other times: each counts once, with its first time.
func TestDeliveryFactsCountOnce(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.deliveries")
	s, poison := newSink(t, &store{conn: table.conn, table: table.cfg.Database + ".deliveries", timeout: time.Minute})
	s.newBlock = newFacts
	poisoned := func(offset int64) delivery.Fact {
		return delivery.Poisoned("notify", "invalid", "activityfeed.v1.PhotoPosted",
			record.Origin{Topic: event.Topic, TopicID: "t", Partition: 1, Offset: offset, Time: day}, day)
	}
	first := []delivery.Fact{
		fanoutFact(0, 3, 10*time.Millisecond), fanoutFact(1, 3, 30*time.Millisecond), fanoutFact(2, 2500, 200*time.Millisecond),
		pushFact(0, "fcm", "delivered"), pushFact(1, "fcm", "delivered"), pushFact(2, "apns", "gone"),
		poisoned(5), poisoned(6),
	}
	again := []delivery.Fact{fanoutFact(0, 3, time.Hour), fanoutFact(2, 2500, time.Hour), pushFact(0, "fcm", "delivered"), poisoned(5)}
	for _, batch := range [][]record.Record{factRecords(t, 0, first...), factRecords(t, 100, again...)} {
		if err := s.handleBatch(batchOf(t, 1, batch...)); err != nil {
			t.Fatal(err)
		}
	}
	if len(poison.got) != 0 {
		t.Errorf("poisoned %v, want nothing", poison.got)
	}
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{"SELECT count() FROM {db}.deliveries", []string{"12"}}, // nothing was merged or dropped: the views do it
		{"SELECT followers, posts, deliveries, p50_ms, p99_ms, max_ms FROM {db}.feed_freshness", []string{"1-9 2 6 30 30 30", "1,000-9,999 1 2500 200 200 200"}},
		{"SELECT provider, reason, action, attempts, users FROM {db}.push_outcomes", []string{"apns gone ok 1 1", "fcm delivered ok 2 1"}},
		{"SELECT service, reason, event_type, records FROM {db}.poison_reasons", []string{"notify invalid PhotoPosted 2"}},
	} {
		if diff := cmp.Diff(tt.want, table.lines(tt.sql)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.sql, diff)
		}
	}
}

func TestFollowerGrowthAndRetention(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	table.exec("SYSTEM STOP MERGES {db}.events")
	s, _ := newSink(t, table.store())
	const dayMillis = 24 * 3600 * 1000
	unfollow := func(n int, follower, followee string) event.Event {
		return eventN(n, &pb.UserUnfollowed{FollowerId: follower, FolloweeId: followee})
	}
	all := []event.Event{
		follow(0, "bob", "ann"), follow(1, "cyd", "ann"),
		follow(2, "bob", "ann"),   // again, another level: no new follower
		unfollow(3, "dan", "ann"), // never followed
		unfollow(dayMillis, "bob", "ann"), follow(dayMillis+1, "dan", "ann"),
		follow(dayMillis+2, "bob", "ann"), unfollow(dayMillis+3, "bob", "ann"),
		follow(7*dayMillis, "bob", "ann"),
	}
	for i, batch := range [][]event.Event{all, all[2:6]} { // some come twice
		if err := s.handleBatch(batchOf(t, 1, recordsOf(t, int64(100*i), batch...)...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{"SELECT author_id, day, gained, lost, followers FROM {db}.follower_growth", []string{
			"ann 2026-11-20 2 0 2", "ann 2026-11-21 2 2 2", "ann 2026-11-27 1 0 3",
		}},
		{"SELECT cohort, weeks_later, people, percent FROM {db}.retention", []string{
			"2026-11-16 0 3 100", "2026-11-16 1 1 33.3",
		}},
	} {
		if diff := cmp.Diff(tt.want, table.lines(tt.sql)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.sql, diff)
		}
	}
}

// Every ready question is one that the schema can answer.
func TestQuestionsHaveAnswers(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	views := table.lines("SELECT name FROM system.tables WHERE database = '{db}' AND engine = 'View' ORDER BY name")
	asked := map[string]bool{}
	for _, q := range Questions() {
		asked[q.Name] = true
		table.lines("SELECT * FROM {db}." + q.Name)
	}
	for _, view := range views {
		if !asked[view] {
			t.Errorf("the view %s is no ready question", view)
		}
	}
}
