package graph

import (
	"testing"
	"time"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// Whoever calls past internal/rpc meets the rules of the facts, in the words of
// the request. The publisher is nil: a call to it would panic.
func TestServiceValidatesByItself(t *testing.T) {
	t.Parallel()
	ids, err := event.NewIDs(0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := service{graph: &Graph{deps: Deps{Log: testenv.Logger(t), IDs: ids}}}
	for _, tt := range []struct {
		name  string
		call  func() error
		field string
	}{
		{"follower", func() error {
			_, err := s.Follow(t.Context(), &pb.FollowRequest{UserId: "a b", TargetId: "bob"})
			return err
		}, "user_id"},
		{"followee", func() error {
			_, err := s.Unfollow(t.Context(), &pb.UnfollowRequest{UserId: "ann", TargetId: ""})
			return err
		}, "target_id"},
		{"actor", func() error {
			_, err := s.Block(t.Context(), &pb.BlockRequest{UserId: "", TargetId: "bob"})
			return err
		}, "user_id"},
		{"target", func() error {
			_, err := s.Mute(t.Context(), &pb.MuteRequest{UserId: "ann", TargetId: "b/b"})
			return err
		}, "target_id"},
		{"oneself", func() error {
			_, err := s.Unmute(t.Context(), &pb.UnmuteRequest{UserId: "ann", TargetId: "ann"})
			return err
		}, "target_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.call()
			if f := fault.Of(err); f == nil || f.Kind != fault.InvalidArgument || f.Field != tt.field {
				t.Errorf("error = %v, want INVALID_ARGUMENT on %s", err, tt.field)
			}
		})
	}
}
