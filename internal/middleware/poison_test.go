package middleware_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
)

var compareLetters = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b *message.Message) bool {
		return a.Equals(b) && (a.Payload == nil) == (b.Payload == nil)
	}),
}

// deliver calls a handler under the stack once, as the router would.
func deliver(p *middleware.Poison, origin record.Origin, msg *message.Message, h message.HandlerFunc) error {
	msg.SetContext(record.WithOrigin(context.Background(), origin))
	_, err := p.Suspected(p.Permanent(wmiddleware.Recoverer(h)))(msg)
	return err
}

func failing(err error) message.HandlerFunc {
	return func(*message.Message) ([]*message.Message, error) { return nil, err }
}

func newMessage(id, payload string) *message.Message {
	msg := message.NewMessage(id, []byte(payload))
	msg.Metadata = message.Metadata{record.KeyMetadata: "ann", "ce_type": "activityfeed.v1.PhotoPosted"}
	return msg
}

func TestLetterTellsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
		written := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
		origin := record.Origin{Topic: "activity", TopicID: "t1", Partition: 3, Offset: 42, LastOffset: 42, Time: written, Attempt: 2}
		firstFailure := time.Now()
		if err := deliver(p, origin, newMessage(subject, "x"), failing(fault.Outage("write", errUnknown))); err == nil {
			t.Fatal("an outage was acked")
		}
		time.Sleep(time.Minute)
		err := deliver(p, origin, newMessage(subject, "x"), failing(fault.Poison(event.ReasonInvalid, errors.New("caption \x1b[31m\xff\n"))))
		if err != nil {
			t.Fatal(err)
		}

		want := []middleware.Letter{{
			ID: subject, Service: "feed", Reason: "invalid", Error: `invalid: caption \x1b[31m\xff\n`,
			Origin: origin, FirstFailure: firstFailure, Original: newMessage(subject, "x"),
		}}
		if diff := cmp.Diff(want, topic.letters(t), compareLetters); diff != "" {
			t.Errorf("letters (-want +got):\n%s", diff)
		}
		if got := topic.messages[0].Metadata[record.KeyMetadata]; got != subject {
			t.Errorf("record key = %q, want the event id", got)
		}
	})
}

func TestLongErrorsAreCut(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
	if err := deliver(p, record.Origin{}, newMessage(subject, "x"), failing(fault.Poison("invalid", errors.New(strings.Repeat("é", 5000))))); err != nil {
		t.Fatal(err)
	}
	if got := topic.letters(t)[0].Error; len(got) > 1024 || len(got) < 1000 || !strings.HasSuffix(got, "é") {
		t.Errorf("error of %d bytes ends in %q", len(got), got[len(got)-4:])
	}
}

func TestLetterOutlivesTheMessageContext(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	msg := newMessage(subject, "x")
	msg.SetContext(ctx)
	if _, err := p.Permanent(failing(fault.Poison("invalid", errUnknown)))(msg); err != nil {
		t.Fatal(err)
	}
	if got := topic.reasons(t); len(got) != 1 {
		t.Errorf("letters = %v, want one: a handler's deadline must not stop its letter", got)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	records := []record.Record{
		{Key: []byte("ann"), Value: []byte("a"), Offset: 10, Time: time.UnixMilli(1).UTC(), Headers: []record.Header{{Name: "ce_id", Value: []byte(subject)}}},
		{Key: nil, Value: nil, Offset: 12, Time: time.UnixMilli(2).UTC()},
		{Key: []byte{}, Value: []byte{}, Offset: 13, Time: time.UnixMilli(3).UTC()},
	}
	var payload []byte
	for _, r := range records {
		payload = record.AppendBatch(payload, r)
	}
	origin := record.Origin{Topic: "activity", Partition: 1, Offset: 10, LastOffset: 13, Attempt: 1}
	type placed struct {
		ID     string
		Offset int64
		Null   bool
		Key    string
		Keyed  bool
	}
	place := func(letters []middleware.Letter) []placed {
		got := make([]placed, 0, len(letters))
		for _, l := range letters {
			key, keyed := l.Original.Metadata[record.KeyMetadata]
			got = append(got, placed{l.ID, l.Origin.Offset, l.Original.Payload == nil, key, keyed})
		}
		return got
	}
	want := []placed{
		{subject, 10, false, "ann", true},
		{"activity/1/12", 12, true, "", false},
		{"activity/1/13", 13, false, "", true},
	}

	t.Run("panic on a batch makes a letter of each record", func(t *testing.T) {
		t.Parallel()
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", Batch: true}, topic, discard(), nil)
		err := deliver(p, origin, message.NewMessage("", payload), func(*message.Message) ([]*message.Message, error) { panic("no") })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, place(topic.letters(t))); diff != "" {
			t.Errorf("letters (-want +got):\n%s", diff)
		}
	})
	t.Run("PublishRecord makes a letter of one record", func(t *testing.T) {
		t.Parallel()
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", Batch: true}, topic, discard(), nil)
		ctx := record.WithOrigin(t.Context(), origin)
		for _, r := range records {
			if err := p.PublishRecord(ctx, r, event.ReasonUndecodable, errUnknown); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, place(topic.letters(t))); diff != "" {
			t.Errorf("letters (-want +got):\n%s", diff)
		}
	})
	t.Run("Publish keeps two records of one batch apart though neither has an id or origin", func(t *testing.T) {
		t.Parallel()
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", Batch: true}, topic, discard(), nil)
		ctx := record.WithOrigin(t.Context(), origin)
		for _, payload := range []string{"x", "y"} {
			if err := p.Publish(ctx, message.NewMessage("", []byte(payload)), event.ReasonUndecodable, errUnknown); err != nil {
				t.Fatal(err)
			}
		}
		letters := topic.letters(t)
		if letters[0].Key() == letters[1].Key() {
			t.Errorf("both letters have the key %s", letters[0].Key())
		}
	})
	t.Run("Publish while closing refuses", func(t *testing.T) {
		t.Parallel()
		topic := &recorder{}
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
		p.Close()
		if err := p.Publish(t.Context(), newMessage(subject, "x"), "invalid", errUnknown); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Publish after Close = %v, want an outage", err)
		}
		if len(topic.messages) > 0 {
			t.Error("published after Close")
		}
	})
}

// A producer's mistake must not fold many records into one letter.
func TestIDsThatAreNoneAreNotTrusted(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
	for offset := range int64(3) {
		origin := record.Origin{Topic: "activity", Offset: offset, LastOffset: offset}
		if err := deliver(p, origin, newMessage("1", "x"), failing(fault.Poison("undecodable", errUnknown))); err != nil {
			t.Fatal(err)
		}
	}
	letters := topic.letters(t)
	got := make([]string, 0, len(letters))
	for _, l := range letters {
		got = append(got, l.Key())
	}
	if diff := cmp.Diff([]string{"activity/0/0", "activity/0/1", "activity/0/2"}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// TestFlood: a share of undecodable events goes to poison without end; a service
// that finds everything undecodable stops soon, and goes on slowly.
func TestFlood(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		every int
		want  int
	}{
		{"every hundredth", 100, 50},
		{"every second", 2, 2500},
		{"all", 1, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				topic := &recorder{}
				reg := prometheus.NewRegistry()
				p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), reg)
				kept := 0
				for i := range 5000 {
					h := failing(nil)
					if i%tt.every == 0 {
						h = failing(fault.Poison("undecodable", errUnknown))
					}
					err := deliver(p, record.Origin{Topic: "activity", Offset: int64(i), LastOffset: int64(i), Attempt: 1}, newMessage("", "x"), h)
					if err != nil {
						if fault.KindOf(err) != fault.Unavailable {
							t.Fatalf("kept message has kind %v, want an outage", fault.KindOf(err))
						}
						kept++
					}
				}
				if got := len(topic.letters(t)); got != tt.want {
					t.Errorf("letters = %d, want %d", got, tt.want)
				}
				if got := value(t, reg, "activityfeed_messages_poison_withheld_total", "reason=budget,service=feed"); got != float64(kept) {
					t.Errorf("withheld = %v, kept %d", got, kept)
				}
				time.Sleep(time.Minute)
				before := len(topic.messages)
				err := deliver(p, record.Origin{Topic: "activity", Offset: 1e6, LastOffset: 1e6}, newMessage("", "x"), failing(fault.Poison("undecodable", errUnknown)))
				if err != nil || len(topic.messages) != before+1 {
					t.Errorf("a minute later: err %v, letters %d, want one more than %d", err, len(topic.messages), before)
				}
			})
		})
	}
}

// A message that suffered an outage beside everyone else has no strikes when the
// others recover before it.
func TestOutageLeavesNoStrikes(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: 3}, topic, discard(), nil)
	neighbours := func(n int, err error) {
		for i := range n {
			deliver(p, record.Origin{Topic: "activity", Partition: 1, Offset: int64(i), LastOffset: int64(i), Attempt: 1}, newMessage("", "x"), failing(err)) // its outcome is the point
		}
	}
	attempt := 0
	fail := func() error {
		attempt++
		return deliver(p, record.Origin{Topic: "activity", Offset: 7, LastOffset: 7, Attempt: attempt}, newMessage("", "x"), failing(errUnknown))
	}
	for range 50 { // everything fails, with an error that nobody classified
		neighbours(20, errUnknown)
		if fail() == nil {
			t.Fatalf("poisoned at attempt %d of an outage", attempt)
		}
	}
	neighbours(1000, nil)
	if fail() == nil { // the second strike: the first was its very first failure
		t.Fatal("poisoned at its first failure after the outage")
	}
	neighbours(1, nil)
	if err := fail(); err != nil {
		t.Errorf("third strike beside healthy neighbours = %v, want poison", err)
	}
	if diff := cmp.Diff([]string{"exhausted"}, topic.reasons(t)); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// Many messages that each look like poison on their own are a broken service.
func TestSuspectsShareABudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := &recorder{}
		reg := prometheus.NewRegistry()
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: 2}, topic, discard(), reg)
		poisoned := 0
		for suspect := range int64(30) {
			for attempt := 1; attempt <= 2; attempt++ {
				origin := record.Origin{Topic: "activity", Offset: suspect, LastOffset: suspect, Attempt: attempt}
				if deliver(p, origin, newMessage("", "x"), failing(errUnknown)) == nil {
					poisoned++
				}
				for i := range int64(4) {
					good := record.Origin{Topic: "activity", Partition: 1, Offset: i, LastOffset: i}
					if err := deliver(p, good, newMessage("", "x"), failing(nil)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// 10 tokens at the start, and 0.02 for each of the 40 to 240 successes since.
		if poisoned < 10 || poisoned > 15 {
			t.Errorf("poisoned %d of 30 suspects, want the budget of 10 and a little", poisoned)
		}
		if got := value(t, reg, "activityfeed_messages_poison_withheld_total", "reason=budget,service=feed") +
			value(t, reg, "activityfeed_messages_poison_withheld_total", "reason=neighbours,service=feed"); got == 0 {
			t.Error("nothing counted as withheld")
		}
	})
}

func TestMetricsOfManyServicesOnOneRegistry(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for _, service := range []string{"feed", "notify", "feed"} {
		p := middleware.NewPoison(middleware.PoisonConfig{Service: service}, &recorder{}, discard(), reg)
		middleware.NewBreaker(middleware.BreakerConfig{Name: service + "-redis"}, discard(), reg)
		origin := record.Origin{Topic: "activity", Attempt: 2}
		for _, err := range []error{nil, fault.Poison("invalid", errUnknown), errUnknown, fault.Outage("x", errUnknown), context.Canceled} {
			deliver(p, origin, newMessage(subject, "x"), failing(err)) // counted below
		}
	}
	for name, want := range map[string]float64{
		"handled_total reason=processed,service=feed":    2,
		"handled_total reason=poisoned,service=notify":   1,
		"poisoned_total reason=invalid,service=feed":     2,
		"failed_total reason=internal,service=feed":      2,
		"failed_total reason=outage,service=notify":      1,
		"failed_total reason=cancelled,service=feed":     2,
		"retried_total reason=redelivery,service=notify": 5,
	} {
		metric, labels, _ := strings.Cut(name, " ")
		if got := value(t, reg, "activityfeed_messages_"+metric, labels); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func TestReplayedMessageKeepsItsStory(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
	first := record.Origin{Topic: "activity", Partition: 3, Offset: 42, LastOffset: 42, Time: time.UnixMilli(5).UTC(), Attempt: 1}
	bad := failing(fault.Poison("undecodable", errUnknown))
	if err := deliver(p, first, newMessage("garbage", "x"), bad); err != nil {
		t.Fatal(err)
	}
	before := topic.letters(t)[0]
	again := record.Origin{Topic: "feed.retry", Partition: 0, Offset: 1, LastOffset: 1, Attempt: 4}
	if err := deliver(p, again, before.Replay(), bad); err != nil {
		t.Fatal(err)
	}
	want := before
	want.Replays, want.Origin.Attempt = 1, 4
	got := topic.letters(t)[1]
	if diff := cmp.Diff(want, got, compareLetters); diff != "" {
		t.Errorf("letter after a replay (-want +got):\n%s", diff)
	}
	if before.Key() != "activity/3/42" || got.Key() != "activity/3/42#1" {
		t.Errorf("keys = %s, %s", before.Key(), got.Key())
	}
}

// hanging is a log that takes connections and never answers.
type hanging struct{ message.Publisher }

func (hanging) PublishContext(ctx context.Context, _ string, _ ...*message.Message) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestLetterHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", Timeout: 3 * time.Second}, hanging{}, discard(), nil)
		start := time.Now()
		err := deliver(p, record.Origin{}, newMessage(subject, "x"), failing(fault.Poison("invalid", errUnknown)))
		if fault.KindOf(err) != fault.Unavailable || time.Since(start) != 3*time.Second {
			t.Errorf("deliver = %v after %v, want an outage after 3 s", err, time.Since(start))
		}
	})
}

// A broker that takes no letters for a while must not use the budget up.
func TestLettersThatWereNotWrittenCostNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name string
			err  error
		}{
			{"permanent", fault.Poison("invalid", errUnknown)},
			{"suspected", errUnknown},
		} {
			topic := &recorder{failures: 1000}
			p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: 2}, topic, discard(), nil)
			for attempt := 1; ; attempt++ {
				origin := record.Origin{Topic: "activity", Offset: 1, LastOffset: 1, Attempt: attempt}
				if deliver(p, origin, newMessage("", "x"), failing(tt.err)) == nil {
					break
				}
				if attempt > 1100 {
					t.Fatalf("%s: not poisoned though the broker is back; %d failures left", tt.name, topic.failures)
				}
				if tt.name == "suspected" { // who needs neighbours
					deliver(p, record.Origin{}, newMessage(subject, "x"), failing(nil))
				}
			}
		}
	})
}

// The last word counts: strikes of earlier days do not make an outage poison.
func TestOutageAfterStrikes(t *testing.T) {
	t.Parallel()
	topic := &recorder{failures: 1}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: 2}, topic, discard(), nil)
	for attempt, err := range []error{errUnknown, errUnknown, fault.Outage("write", errUnknown)} {
		origin := record.Origin{Topic: "activity", Offset: 1, LastOffset: 1, Attempt: attempt + 1}
		if deliver(p, origin, newMessage("", "x"), failing(err)) == nil {
			t.Errorf("delivery %d was acked", attempt+1)
		}
		for range 100 {
			deliver(p, record.Origin{}, newMessage(subject, "x"), failing(nil))
		}
	}
	if got := topic.reasons(t); len(got) > 0 {
		t.Errorf("letters = %v, want none", got)
	}
}

func TestCancelledMessageIsNotBelieved(t *testing.T) {
	t.Parallel()
	topic := &recorder{}
	p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed"}, topic, discard(), nil)
	ctx, revoke := context.WithCancel(t.Context())
	revoke()
	msg := newMessage(subject, "x")
	msg.SetContext(ctx)
	if _, err := p.Suspected(p.Permanent(failing(fault.Poison("invalid", errUnknown))))(msg); err == nil || len(topic.messages) > 0 {
		t.Errorf("error %v, %d letters, want a nack", err, len(topic.messages))
	}
}

// Messages whose partition went elsewhere fail here no more, nor do they succeed:
// they must not speak against a verdict for ever.
func TestFailuresOfOthersExpire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		since time.Duration
		want  int
	}{
		{"neighbours failed just now", time.Minute, 0},
		{"neighbours failed long ago", 20 * time.Minute, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				topic := &recorder{}
				p := middleware.NewPoison(middleware.PoisonConfig{Service: "feed", MaxAttempts: 2}, topic, discard(), nil)
				at := func(offset int64, attempt int) record.Origin {
					return record.Origin{Topic: "activity", Offset: offset, LastOffset: offset, Attempt: attempt}
				}
				for offset := range int64(5000) { // a good past proves nothing now
					deliver(p, at(1000+offset, 1), newMessage("", "x"), failing(nil))
				}
				for offset := range int64(10) {
					deliver(p, at(offset, 1), newMessage("", "x"), failing(errUnknown))
				}
				time.Sleep(tt.since)
				for attempt := 1; attempt <= 2; attempt++ {
					deliver(p, at(99, attempt), newMessage("", "x"), failing(errUnknown))
					for offset := range int64(100) {
						deliver(p, at(1000+offset, 1), newMessage("", "x"), failing(nil))
					}
				}
				if got := len(topic.reasons(t)); got != tt.want {
					t.Errorf("letters = %d, want %d", got, tt.want)
				}
			})
		})
	}
}
