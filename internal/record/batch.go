package record

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
)

var errBatch = errors.New("record: malformed batch")

// AppendBatch appends r to a batch payload. A batch is a plain sequence of
// length-prefixed records, so that one Watermill message can carry a contiguous
// run of a partition through an ordinary router.
func AppendBatch(dst []byte, r Record) []byte {
	dst = appendPlace(dst, r.Offset, r.Time)
	dst = AppendBytes(dst, r.Key)
	dst = AppendBytes(dst, r.Value)
	dst = binary.AppendUvarint(dst, uint64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = binary.AppendUvarint(dst, uint64(len(h.Name))+1)
		dst = append(dst, h.Name...)
		dst = AppendBytes(dst, h.Value)
	}
	return dst
}

// AppendBody is AppendBatch for a record whose key, value and headers are encoded
// already: key and value by [AppendBytes], the number of headers as an unsigned varint,
// and name and value of each by AppendBytes.
func AppendBody(dst []byte, offset int64, at time.Time, body []byte) []byte {
	return append(appendPlace(dst, offset, at), body...)
}

func appendPlace(dst []byte, offset int64, at time.Time) []byte {
	dst = binary.AppendVarint(dst, offset)
	return binary.AppendVarint(dst, at.UnixMilli())
}

// Batch iterates over the records of a batch payload. Keys and values alias the
// payload. A malformed payload ends the iteration with an error.
func Batch(payload []byte) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		d := decoder{rest: payload}
		for len(d.rest) > 0 {
			r := d.record()
			if d.failed {
				yield(Record{}, errBatch)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Frame is a record as it lies in a batch payload, of which it is a part.
type Frame []byte

// Record returns the record, which aliases the frame.
func (f Frame) Record() Record {
	d := decoder{rest: f}
	return d.record()
}

// Frames iterates over the records of a batch payload and the places where they lie.
// It is [Batch] for who looks at each record once, and may come back to a few: the
// headers of a record are valid until the next one is read, and no memory is made
// for them. A malformed payload ends the iteration with an error.
func Frames(payload []byte) iter.Seq2[Framed, error] {
	return func(yield func(Framed, error) bool) {
		d := decoder{rest: payload, reuse: true}
		for len(d.rest) > 0 {
			from := len(payload) - len(d.rest)
			r := d.record()
			if d.failed {
				yield(Framed{}, errBatch)
				return
			}
			to := len(payload) - len(d.rest)
			if !yield(Framed{r, payload[from:to:to]}, nil) {
				return
			}
		}
	}
}

// Framed is a record and where it lies.
type Framed struct {
	Record

	Frame Frame
}

type decoder struct {
	rest   []byte
	failed bool
	// names are the header names seen so far: each record has the same few.
	names []string
	// headers is where the headers of the next records go. Records keep parts of
	// it, so a full one is left to them.
	headers []Header
	// reuse says that headers belong to one record at a time.
	reuse bool
}

// Sizes of the decoder's memory: an event has up to seven headers.
const (
	maxNames      = 16
	headersAtOnce = 1024
)

func (d *decoder) record() Record {
	r := Record{Offset: d.varint(), Time: time.UnixMilli(d.varint()).UTC(), Key: d.bytes(), Value: d.bytes()}
	n := d.uvarint()
	// A header takes two bytes at least: a larger count is a lie, and no reason
	// to allocate.
	if n > uint64(len(d.rest)) {
		d.failed = true
		return r
	}
	if n == 0 {
		r.Headers = []Header{}
		return r
	}
	if d.reuse {
		d.headers = d.headers[:0]
	}
	if free := cap(d.headers) - len(d.headers); uint64(free) < n {
		// No more than the rest can hold, at two bytes a header.
		d.headers = make([]Header, 0, max(int(n), min(headersAtOnce, len(d.rest)/2)))
	}
	first := len(d.headers)
	for i := range n {
		d.headers = append(d.headers, Header{d.name(int(i)), d.bytes()})
	}
	r.Headers = d.headers[first:len(d.headers):len(d.headers)]
	return r
}

// name reads the name of the i-th header of a record, mostly the i-th name of all.
func (d *decoder) name(i int) string {
	b := d.bytes()
	if i < len(d.names) && d.names[i] == string(b) {
		return d.names[i]
	}
	for _, known := range d.names {
		if known == string(b) {
			return known
		}
	}
	name := string(b)
	if len(d.names) < maxNames {
		d.names = append(d.names, name)
	}
	return name
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	return v * int64(d.skip(n))
}

func (d *decoder) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 { // most of them
		v := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return v
	}
	v, n := binary.Uvarint(d.rest)
	return v * uint64(d.skip(n))
}

// skip drops n read bytes; it returns 1, or 0 when the number was malformed.
func (d *decoder) skip(n int) int {
	if n <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return 1
}

// bytes reads a byte string; nil and empty are told apart, as Kafka does.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	n--
	rest := d.rest
	if n > uint64(len(rest)) {
		d.failed, d.rest = true, nil
		return nil
	}
	d.rest = rest[n:]
	return rest[:n:n]
}

// AppendBytes appends a byte string of a batch payload; nil and empty are told apart.
func AppendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b))+1)
	return append(dst, b...)
}
