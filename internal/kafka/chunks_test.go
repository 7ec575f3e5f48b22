package kafka

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"activityfeed/internal/record"
)

// Cut anywhere between two records, and however large they are, nothing gets lost,
// and memory that went back does not show through.
func TestChunksKeepWhatTheyAreGiven(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var c chunks
	var want []byte
	var lengths []int
	for offset := range int64(3000) {
		value := bytes.Repeat([]byte{byte(offset)}, rng.IntN(2000))
		if offset%500 == 499 {
			value = make([]byte, chunkSize+rng.IntN(1000))
		}
		r := record.Record{Offset: offset, Value: value, Headers: []record.Header{{Name: "a", Value: []byte("b")}}}
		lengths = append(lengths, c.add(r, len(value)+2))
		want = record.AppendBatch(want, r)
		if rng.IntN(300) > 0 {
			continue
		}
		n := 0
		for range rng.IntN(len(lengths)) + 1 {
			n += lengths[0]
			lengths = slices.Delete(lengths, 0, 1)
		}
		head := c.cut(n)
		if got := head.appendTo(nil); !bytes.Equal(got, want[:n]) {
			t.Fatalf("after %d records: the first %d bytes are others", offset+1, n)
		}
		want = want[n:]
		head.free()
	}
	if !bytes.Equal(c.appendTo(nil), want) {
		t.Error("the rest is another")
	}
}
