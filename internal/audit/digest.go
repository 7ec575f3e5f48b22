package audit

import (
	"hash/fnv"

	"google.golang.org/protobuf/proto"

	pb "activityfeed/proto/activityfeed/v1"
)

// DigestOf returns a digest of all of a photo, so that a served photo can be held
// against the log's without keeping either.
func DigestOf(photo *pb.Photo) uint64 {
	h := fnv.New64a()
	// A photo is plain data, which can always be marshalled; if not, equal photos
	// still have equal digests.
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(photo)
	_, _ = h.Write(b)
	return h.Sum64()
}
