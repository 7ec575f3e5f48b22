package kafka

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// readPool keeps the memory that the client reads into, in batch mode: the window
// copies records (batch.go) and gives them back at once. What it does not take up,
// because the partition went away meanwhile, is left to the garbage collector.
type readPool struct{ bytes, records sync.Pool }

var (
	_ kgo.PoolDecompressBytes = (*readPool)(nil)
	_ kgo.PoolRecords         = (*readPool)(nil)
)

// GetDecompressBytes returns room for a batch of the log.
func (p *readPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	// Protobuf with its headers packs to a quarter or less.
	return p.room(4 * len(compressed))
}

// room returns an empty slice for n bytes or so.
func (p *readPool) room(n int) []byte {
	if b, ok := p.bytes.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

// PutDecompressBytes takes it back.
func (p *readPool) PutDecompressBytes(b []byte) { p.bytes.Put(&b) }

// GetRecords returns room for n records.
func (p *readPool) GetRecords(n int) []kgo.Record {
	if r, ok := p.records.Get().(*[]kgo.Record); ok && cap(*r) >= n {
		return (*r)[:n]
	}
	return make([]kgo.Record, n)
}

// PutRecords takes it back.
func (p *readPool) PutRecords(r []kgo.Record) { p.records.Put(&r) }
