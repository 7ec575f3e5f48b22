package kafka

import (
	"crypto/rand"
	"encoding/binary"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/record"
)

// flattener makes records of one value each out of those that the client decompresses,
// in batch mode: key, value and headers go into it as [record.AppendBatch] writes them,
// and the client finds no headers. It would make a slice of them and a string of each
// name, for every record: six of the twelve objects that a row of ClickHouse cost.
//
// Batches that are not compressed never come here, so flat records are marked: their key
// begins with a secret of this process, which no record of the log can have by chance.
type flattener struct {
	kgo.Decompressor

	pool *readPool
	mark [markSize]byte
}

const (
	markSize = 16
	// flatKey is the length of a flat record's key: the mark, and the size (sizeOf).
	flatKey = markSize + 4
)

func newFlattener(pool *readPool) *flattener {
	f := &flattener{Decompressor: kgo.DefaultDecompressor(pool), pool: pool}
	_, _ = rand.Read(f.mark[:]) // never fails
	return f
}

// Decompress is the client's, but for the form of what it returns.
func (f *flattener) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	raw, err := f.Decompressor.Decompress(src, codec)
	if err != nil || codec == kgo.CodecNone {
		return raw, err
	}
	flat, err := f.flatten(f.pool.room(2*len(raw)), raw)
	if err != nil {
		// Of an old format, or broken: the client knows what to do with either.
		return raw, nil //nolint:nilerr // see above
	}
	f.pool.PutDecompressBytes(raw)
	return flat, nil
}

// is reports whether a record is a flat one, and how large it was.
func (f *flattener) is(r *kgo.Record) (size int, ok bool) {
	if f == nil || len(r.Key) != flatKey || [markSize]byte(r.Key) != f.mark {
		return 0, false
	}
	return int(binary.LittleEndian.Uint32(r.Key[markSize:])), true
}

var errRaw = errors.New("kafka: malformed record")

// flatten appends the records of raw, of the format that Kafka calls version 2, as flat
// ones: https://kafka.apache.org/documentation/#record.
func (f *flattener) flatten(to, raw []byte) ([]byte, error) {
	var body []byte
	for len(raw) > 0 {
		length, used := binary.Varint(raw)
		if used <= 0 || length < 1 || length > int64(len(raw)-used) {
			return nil, errRaw
		}
		r := rawRecord{rest: raw[used : used+int(length)]}
		raw = raw[used+int(length):]

		head := r.rest
		r.skip(1)  // attributes
		r.varint() // timestamp
		r.varint() // offset
		head = head[:len(head)-len(r.rest)]
		var size int
		if body, size = r.appendBody(body[:0]); r.broken || len(r.rest) > 0 {
			return nil, errRaw
		}

		total := len(head) + varintLen(flatKey) + flatKey + varintLen(len(body)) + len(body) + 1
		to = binary.AppendVarint(to, int64(total))
		to = append(to, head...)
		to = binary.AppendVarint(to, flatKey)
		to = append(to, f.mark[:]...)
		to = binary.LittleEndian.AppendUint32(to, uint32(size))
		to = binary.AppendVarint(to, int64(len(body)))
		to = append(to, body...)
		to = append(to, 0) // headers
	}
	return to, nil
}

// varintLen is how many bytes a length takes.
func varintLen(n int) int {
	size := 1
	for n >>= 6; n > 0; n >>= 7 {
		size++
	}
	return size
}

// rawRecord reads a record of Kafka.
type rawRecord struct {
	rest   []byte
	broken bool
}

// appendBody appends key, value and headers as a frame has them; size is what they hold.
func (r *rawRecord) appendBody(to []byte) (_ []byte, size int) {
	key, value := r.bytes(), r.bytes()
	to = record.AppendBytes(record.AppendBytes(to, key), value)
	size = len(key) + len(value)
	headers := r.varint()
	if headers < 0 || headers > int64(len(r.rest)) {
		r.broken = true
		return to, 0
	}
	to = binary.AppendUvarint(to, uint64(headers))
	for range headers {
		name, value := r.bytes(), r.bytes()
		if name == nil {
			r.broken = true // only a value may be null
			return to, 0
		}
		to = record.AppendBytes(record.AppendBytes(to, name), value)
		size += len(name) + len(value)
	}
	return to, size
}

// bytes reads a byte string; nil if it is null.
func (r *rawRecord) bytes() []byte {
	n := r.varint()
	if n < 0 || n > int64(len(r.rest)) {
		r.broken = r.broken || n != -1
		return nil
	}
	return r.skip(int(n))
}

func (r *rawRecord) varint() int64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 { // most lengths
		b := r.rest[0]
		r.rest = r.rest[1:]
		return int64(b>>1) ^ -int64(b&1)
	}
	n, used := binary.Varint(r.rest)
	if used <= 0 {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[used:]
	return n
}

func (r *rawRecord) skip(n int) []byte {
	if n > len(r.rest) {
		r.broken, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
