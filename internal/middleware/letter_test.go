package middleware_test

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
)

// travel sends a message through a record, as the log does.
func travel(msg *message.Message) *message.Message { return record.FromMessage(msg).Message() }

func TestLetterSurvivesTheLog(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 5, time.UTC)
	for _, tt := range []struct {
		name     string
		id       string
		metadata message.Metadata
		payload  []byte
		key      string
	}{
		{"event", subject, message.Metadata{record.KeyMetadata: "ann", "ce_type": "x"}, []byte("x"), subject},
		{"no key, no id", "", message.Metadata{}, []byte("x"), "activity/3/42"},
		{"empty key", "", message.Metadata{record.KeyMetadata: ""}, []byte("x"), "activity/3/42"},
		{"null payload", "", message.Metadata{record.KeyMetadata: "ann"}, nil, "activity/3/42"},
		{"empty payload", "", message.Metadata{record.KeyMetadata: "ann"}, []byte{}, "activity/3/42"},
		{"binary everything", "\xff\x00", message.Metadata{record.KeyMetadata: "\xfe", "h": "\x00\xff"}, []byte{0xff, 0}, "activity/3/42"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			original := message.NewMessage(tt.id, tt.payload)
			original.Metadata = tt.metadata
			want := middleware.NewLetter(original, record.Origin{Topic: "activity", Partition: 3, Offset: 42, LastOffset: 42, Time: at, Attempt: 8})
			want.Service, want.Reason, want.Error, want.FirstFailure = "feed", "exhausted", "no", at.Add(time.Hour)

			if want.Message().Payload == nil {
				t.Error("the letter has a null value: compaction would take it for a tombstone")
			}
			got, tombstone, err := middleware.ParseLetter(travel(want.Message()))
			if err != nil || tombstone {
				t.Fatalf("ParseLetter: tombstone %v, err %v", tombstone, err)
			}
			if diff := cmp.Diff(want, got, compareLetters); diff != "" {
				t.Errorf("ParseLetter(letter) (-want +got):\n%s", diff)
			}
			if got.Key() != tt.key {
				t.Errorf("Key() = %q, want %q", got.Key(), tt.key)
			}

			grave, tombstone, err := middleware.ParseLetter(travel(got.Tombstone()))
			if err != nil || !tombstone || grave.Key() != got.Key() {
				t.Errorf("ParseLetter(tombstone) = key %q, %v, %v", grave.Key(), tombstone, err)
			}

			replayed := travel(got.Replay())
			again := middleware.NewLetter(replayed, record.Origin{Topic: "feed.retry", Offset: 1, Attempt: 8})
			if again.ID != want.ID || again.Replays != 1 || again.Origin.String() != "activity/3/42" || !again.FirstFailure.Equal(want.FirstFailure) {
				t.Errorf("letter of the replay = %+v", again)
			}
			if !again.Original.Equals(original) || (again.Original.Payload == nil) != (tt.payload == nil) {
				t.Errorf("original after a replay = %v, want %v", again.Original, original)
			}
			if grave, _, _ := middleware.ParseLetter(travel(again.Tombstone())); grave.ID != want.ID || grave.Replays != 1 {
				t.Errorf("tombstone of the replay = %s, %d", grave.ID, grave.Replays)
			}
		})
	}
}

func TestForeignRecords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		metadata message.Metadata
		payload  string
	}{
		{"no key", message.Metadata{}, "x"},
		{"no reason", message.Metadata{record.KeyMetadata: "k"}, "x"},
		{"no key and no payload", message.Metadata{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg := message.NewMessage("", []byte(tt.payload))
			msg.Metadata = tt.metadata
			if _, _, err := middleware.ParseLetter(msg); !errors.Is(err, middleware.ErrForeign) {
				t.Errorf("ParseLetter(%v) = %v, want ErrForeign", msg, err)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add("caption \x1b[31m\u202e\xff é", 12)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(0, limit)
		got := middleware.Clean(text, limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("Clean(%q, %d) = %q", text, limit, got)
		}
		if again := middleware.Clean(got, limit); again != got {
			t.Errorf("Clean(%q) = %q: not clean at first", got, again)
		}
	})
}
