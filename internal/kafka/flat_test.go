package kafka

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"activityfeed/internal/record"
)

// rawOf is a record as a batch of the log has it.
func rawOf(r *kgo.Record) []byte {
	one := kmsg.Record{TimestampDelta64: 7, OffsetDelta: int32(r.Offset), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		one.Headers = append(one.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
	}
	one.Length = 0
	one.Length = int32(len(one.AppendTo(nil)) - 1) // a length of 0 takes one byte
	return one.AppendTo(nil)
}

// randomRecord has what records may have: nothing, empty texts, many headers.
func randomRecord(rng *rand.Rand, offset int64) *kgo.Record {
	text := func() []byte {
		if n := rng.IntN(300) - 20; n > 0 {
			return bytes.Repeat([]byte{byte(n)}, n)
		} else if n > -10 {
			return []byte{}
		}
		return nil
	}
	r := &kgo.Record{Offset: offset, Timestamp: time.UnixMilli(1_700_000_000_000 + offset), Key: text(), Value: text()}
	for range rng.IntN(8) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(text()), Value: text()})
	}
	return r
}

// A flat record makes the same frame as the record that it was made of, and counts the same.
func TestFlatRecordsAreTheSame(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	f := newFlattener(&readPool{})
	var raw []byte
	var records []*kgo.Record
	for offset := range int64(500) {
		records = append(records, randomRecord(rng, offset))
		raw = append(raw, rawOf(records[offset])...)
	}
	flat, err := f.flatten(nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range records {
		var one kmsg.Record
		if err := one.ReadFrom(flat); err != nil {
			t.Fatal(err)
		}
		flat = flat[len(one.AppendTo(nil)):]
		if one.TimestampDelta64 != 7 || one.OffsetDelta != int32(want.Offset) || len(one.Headers) > 0 {
			t.Fatalf("record %d became %+v", want.Offset, one)
		}
		got := &kgo.Record{Offset: want.Offset, Timestamp: want.Timestamp, Key: one.Key, Value: one.Value}
		if _, ok := f.is(got); !ok {
			t.Fatalf("record %d is not known for a flat one", want.Offset)
		}
		if _, ok := f.is(want); ok {
			t.Fatalf("record %d is taken for a flat one", want.Offset)
		}
		a, b := &batcher{flat: f}, &batcher{flat: f}
		if x, y := a.add(got, 0, want.Timestamp), b.add(want, 0, want.Timestamp); x != y {
			t.Errorf("record %d counts %d bytes, want %d", want.Offset, x, y)
		}
		if x, y := a.frames.appendTo(nil), b.frames.appendTo(nil); !bytes.Equal(x, y) {
			t.Errorf("record %d has the frame\n%x, want\n%x", want.Offset, x, y)
		}
	}
	if len(flat) > 0 {
		t.Errorf("%d bytes are left over", len(flat))
	}
}

// What is no sequence of records is refused, and never read beyond its end.
func FuzzFlatten(f *testing.F) {
	f.Add(rawOf(&kgo.Record{Key: []byte("ann"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("b")}}}))
	f.Add(rawOf(&kgo.Record{}))
	f.Add([]byte{1, 0})
	flat := newFlattener(&readPool{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for cut := range len(raw) + 1 {
			to, err := flat.flatten(nil, raw[:cut])
			for err == nil && len(to) > 0 {
				var one kmsg.Record
				if err := one.ReadFrom(to); err != nil {
					t.Fatalf("flatten(%x) is no record: %v", raw[:cut], err)
				}
				for _, err := range record.Frames(record.AppendBody(nil, 1, time.UnixMilli(1), one.Value)) {
					if err != nil {
						t.Fatalf("flatten(%x): %v", raw[:cut], err)
					}
				}
				size := len(to)
				to = to[min(size, int(one.Length)+varintLen(int(one.Length))):]
			}
		}
	})
}
