package bench

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// rawCodec carries messages that are bytes already.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

// Marshal takes []byte.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	raw, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T is not []byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
}

// Unmarshal takes *[]byte.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	raw, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: %T is not *[]byte", v)
	}
	*raw = data.Materialize()
	return nil
}

// Name is that of protobuf, whose bytes they are.
func (rawCodec) Name() string { return "proto" }
