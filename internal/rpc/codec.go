package rpc

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Encoded is a response whose parts lie encoded in memory already, so that a server
// copies bytes where it would walk through messages. It must be a protobuf message
// as well, of the same content: whoever does not know this interface encodes that,
// in whatever form it wants.
type Encoded interface {
	// WireSize returns the length of what AppendWire adds.
	WireSize() int
	// AppendWire adds the message in protobuf's binary form.
	AppendWire(to []byte) ([]byte, error)
}

// wireCodec is gRPC's codec for protobuf, which knows [Encoded].
type wireCodec struct{ encoding.CodecV2 }

func newWireCodec() wireCodec { return wireCodec{encoding.GetCodecV2(proto.Name)} }

// Marshal encodes a response.
func (c wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(Encoded)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(message.WireSize())
	encoded, err := message.AppendWire((*buffer)[:0])
	if err != nil {
		pool.Put(buffer)
		return nil, err
	}
	*buffer = encoded
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}
