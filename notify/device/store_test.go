package device_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	"activityfeed/notify/device"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// In whatever order and however often the facts about a device come, it is told for
// one person: the one who registered it last.
func TestOneOwnerInAnyOrder(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"miniredis": testenv.MiniRedis(t).Addr(), "redis": testenv.Redis(t)} {
		client := testenv.RedisClient(t, addr)
		s := device.New(client, 3*time.Second)
		base := event.FirstID(time.Now())
		for i, order := range [][]int{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}, {1, 3, 2}, {2, 1, 3, 1, 2}, {3, 1, 2}} {
			target := &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: fmt.Sprint("token", i)}
			id := device.ID(device.Target(target, time.Time{}))
			users := map[int]string{1: fmt.Sprint("ann", i), 2: fmt.Sprint("bob", i), 3: fmt.Sprint("cid", i)}
			for _, n := range order {
				err := s.Register(t.Context(), &pb.DeviceRegistered{
					UserId: users[n], DeviceId: id, Target: target, RegisterTime: timestamppb.Now(),
				}, base+event.ID(n))
				if err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]bool{}
			for n := 1; n <= 3; n++ {
				devices, err := s.Get(t.Context(), device.Ref{User: users[n], Device: id})
				if err != nil {
					t.Fatal(err)
				}
				got[users[n]] = devices[0].ID == id
			}
			want := map[string]bool{users[1]: false, users[2]: false, users[3]: true}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, order %v: who is told (-want +got):\n%s", name, order, diff)
			}
		}
	}
}

func TestRemoveComparesVersions(t *testing.T) {
	t.Parallel()
	client := testenv.RedisClient(t, testenv.MiniRedis(t).Addr())
	s := device.New(client, 3*time.Second)
	target := &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: "token"}
	id := device.ID(device.Target(target, time.Time{}))
	version := event.FirstID(time.Now())
	fact := &pb.DeviceRegistered{UserId: "bob", DeviceId: id, Target: target, RegisterTime: timestamppb.Now()}
	if err := s.Register(t.Context(), fact, version); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name  string
		upTo  event.ID
		user  string
		want  bool
		owner bool
	}{
		{"an older one is meant", version - 1, "bob", false, true},
		{"somebody else's", version, "ann", false, true},
		{"this one", version, "bob", true, false},
		{"again", version, "bob", false, false},
	} {
		removed, err := s.Remove(t.Context(), step.user, id, step.upTo)
		if err != nil || removed != step.want {
			t.Errorf("%s: Remove = %t, %v, want %t", step.name, removed, err, step.want)
		}
		devices, err := s.Get(t.Context(), device.Ref{User: "bob", Device: id})
		if err != nil || (devices[0].ID != "") != step.owner {
			t.Errorf("%s: Get = %v, %v, want it there: %t", step.name, devices, err, step.owner)
		}
	}
	if keys := client.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys %v are left of a removed device", keys)
	}
}

func TestStrikesInARow(t *testing.T) {
	t.Parallel()
	client := testenv.RedisClient(t, testenv.MiniRedis(t).Addr())
	s := device.New(client, 3*time.Second)
	target := &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: "token"}
	id := device.ID(device.Target(target, time.Time{}))
	if err := s.Register(t.Context(), &pb.DeviceRegistered{UserId: "bob", DeviceId: id, Target: target}, event.FirstID(time.Now())); err != nil {
		t.Fatal(err)
	}
	refused := push.Outcome{Action: push.Drop, Reason: push.Rejected, Strike: true}
	later := push.Outcome{Action: push.Retry, Reason: push.Timeout}
	fine := push.Outcome{Action: push.OK, Reason: push.Delivered}
	for i, step := range []struct {
		outcome push.Outcome
		want    int
	}{{refused, 1}, {refused, 2}, {fine, 0}, {refused, 1}, {later, 1}, {refused, 2}, {refused, 3}} {
		got, err := s.Record(t.Context(), device.Ref{User: "bob", Device: id}, step.outcome, time.Now())
		if err != nil || got != step.want {
			t.Errorf("step %d: Record = %d strikes, %v, want %d", i, got, err, step.want)
		}
	}
	if got, err := s.Record(t.Context(), device.Ref{User: "bob", Device: "gone"}, fine, time.Now()); got != 0 || err != nil {
		t.Errorf("Record of a device that is gone = %d, %v, want 0", got, err)
	}
}
