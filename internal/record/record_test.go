package record_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/record"
)

func TestMessageSurvivesRecord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		metadata message.Metadata
	}{
		{"no key", message.Metadata{"a": "1"}},
		{"empty key is a key", message.Metadata{record.KeyMetadata: ""}},
		{"key and headers", message.Metadata{record.KeyMetadata: "ann", "ce_type": "x", "b": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := message.NewMessage("id-1", []byte("payload"))
			want.Metadata = tt.metadata
			got := record.FromMessage(want).Message()
			if !got.Equals(want) {
				t.Errorf("FromMessage(%v).Message() = %v", want, got)
			}
		})
	}
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "name", int64(7))
	f.Add([]byte(nil), []byte{}, "", int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, name string, offset int64) {
		want := []record.Record{
			{Key: key, Value: value, Offset: offset, Time: time.UnixMilli(1).UTC(), Headers: []record.Header{{name, value}}},
			{Key: nil, Value: []byte{}, Offset: 0, Time: time.UnixMilli(2).UTC(), Headers: []record.Header{}},
		}
		var payload []byte
		for _, r := range want {
			payload = record.AppendBatch(payload, r)
		}
		var got []record.Record
		for r, err := range record.Batch(payload) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Batch(AppendBatch(r)) (-want +got):\n%s", diff)
		}
		var framed []record.Record
		for r, err := range record.Frames(payload) {
			if err != nil {
				t.Fatal(err)
			}
			framed = append(framed, r.Frame.Record())
			if diff := cmp.Diff(framed[len(framed)-1], r.Record); diff != "" {
				t.Errorf("Frames: the frame (-) is not the record (+):\n%s", diff)
			}
		}
		if diff := cmp.Diff(want, framed); diff != "" {
			t.Errorf("Frames(AppendBatch(r)) (-want +got):\n%s", diff)
		}
		// Torn payloads must end in an error or early, never in a panic.
		for cut := range payload {
			for _, err := range record.Batch(payload[cut:]) {
				if err != nil {
					break
				}
			}
			for _, err := range record.Frames(payload[cut:]) {
				if err != nil {
					break
				}
			}
		}
	})
}
