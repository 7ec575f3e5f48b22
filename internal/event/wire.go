package event

import (
	"math"
	"unicode/utf8"
)

// fields goes through the fields of a protobuf message, as far as our facts need
// it: numbers up to 15, of the kinds varint and bytes. Whatever else there is ends it,
// and done tells that it did not come to the end.
type fields struct {
	rest string
	// The field that next has read.
	number  int
	isBytes bool
	bytes   string
	varint  uint64

	broken bool
}

// next reads a field; false at the end or where it does not understand.
func (f *fields) next() bool {
	if f.rest == "" || f.broken {
		return false
	}
	tag := f.rest[0]
	f.rest = f.rest[1:]
	f.number = int(tag >> 3)
	value, ok := f.uvarint()
	switch {
	case !ok || tag >= 0x80 || f.number == 0:
	case tag&7 == 0:
		f.isBytes, f.bytes, f.varint = false, "", value
		return true
	case tag&7 == 2 && value <= uint64(len(f.rest)):
		f.isBytes, f.bytes, f.varint = true, f.rest[:value], 0
		f.rest = f.rest[value:]
		return true
	}
	f.broken = true
	return false
}

// done reports whether everything was read.
func (f *fields) done() bool { return f.rest == "" && !f.broken }

// isText reports whether the field is a string as protobuf wants it.
func (f *fields) isText() bool { return f.isBytes && utf8.ValidString(f.bytes) }

// isSmall reports whether the field is a number that is not negative as an int32.
func (f *fields) isSmall() bool { return !f.isBytes && f.varint <= math.MaxInt32 }

// uvarint reads a number of up to nine bytes: longer ones are negative.
func (f *fields) uvarint() (n uint64, ok bool) {
	for i := 0; i < len(f.rest) && i < 9; i++ {
		b := f.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			f.rest = f.rest[i+1:]
			return n, true
		}
	}
	return 0, false
}

// readPair reads a message of two strings, numbers 1 and 2, and a number 3 where
// there may be one. It returns false if it does not understand all of it.
func readPair(payload string, first, second *string, third *uint64) bool {
	*first, *second = "", ""
	if third != nil {
		*third = 0
	}
	f := fields{rest: payload}
	for f.next() {
		switch {
		case f.number == 1 && f.isText():
			*first = f.bytes
		case f.number == 2 && f.isText():
			*second = f.bytes
		case f.number == 3 && third != nil && f.isSmall():
			*third = f.varint
		default:
			return false
		}
	}
	return f.done()
}
