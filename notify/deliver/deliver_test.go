package deliver_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	"activityfeed/notify/deliver"
	"activityfeed/notify/device"
	"activityfeed/notify/push"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const mention = pb.NotificationType_NOTIFICATION_TYPE_MENTION

// provider is a push service that does what the test says.
type provider func(ctx context.Context, to push.Target, m push.Message) push.Outcome

func (p provider) Send(ctx context.Context, to push.Target, m push.Message) push.Outcome {
	return p(ctx, to, m)
}
func (provider) Check(push.Target) error { return nil }

// bed is a Deliverer over a Redis, people without preferences, and a clock.
type bed struct {
	*deliver.Deliverer

	t       *testing.T
	client  redis.UniversalClient
	devices *device.Store
	ids     *event.IDs
	clock   *testenv.Clock

	mu      sync.Mutex
	inboxes map[string]deliver.Inbox
	gone    []string
	letters []deliver.Letter
}

func newBed(t *testing.T, cfg deliver.Config, senders push.Senders) *bed {
	t.Helper()
	client := testenv.RedisClient(t, testenv.Redis(t))
	b := &bed{
		t: t, client: client, devices: device.New(client, testenv.RedisTimeout), clock: testenv.NewClock(time.Now().Truncate(time.Millisecond)),
		inboxes: make(map[string]deliver.Inbox),
	}
	var err error
	if b.ids, err = event.NewIDs(1, b.clock.Now); err != nil {
		t.Fatal(err)
	}
	cfg.Poll = 5 * time.Millisecond
	b.Deliverer, err = deliver.New(cfg, deliver.Deps{
		Log: testenv.Logger(t), Redis: client, Devices: b.devices, Home: b, Senders: senders, Now: b.clock.Now,
		RedisTimeout: testenv.RedisTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

func (b *bed) Inboxes(_ context.Context, users []string) ([]deliver.Inbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]deliver.Inbox, len(users))
	for i, user := range users {
		all[i] = b.inboxes[user]
	}
	return all, nil
}

func (b *bed) Preferences(_ context.Context, users []string) ([]*pb.NotificationPreferences, error) {
	return make([]*pb.NotificationPreferences, len(users)), nil
}

func (b *bed) DeviceGone(_ context.Context, user, _ string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = append(b.gone, user)
	return nil
}

func (b *bed) Bury(_ context.Context, l deliver.Letter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.letters = append(b.letters, l)
	return nil
}

func (b *bed) register(user string, p pb.PushProvider, token string) string {
	b.t.Helper()
	target := &pb.PushTarget{Provider: p, Token: token, Endpoint: "https://push.example/" + token}
	id := device.ID(device.Target(target, b.clock.Now()))
	err := b.devices.Register(b.t.Context(), &pb.DeviceRegistered{
		UserId: user, DeviceId: id, Target: target, RegisterTime: timestamppb.New(b.clock.Now()),
	}, b.ids.Next())
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// crowd registers a device of the provider and one of FCM for each of n users.
func (b *bed) crowd(n int, p pb.PushProvider) []string {
	b.t.Helper()
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
		b.register(users[i], p, fmt.Sprint("slow", i))
		b.register(users[i], pb.PushProvider_PUSH_PROVIDER_FCM, fmt.Sprint("token", i))
	}
	return users
}

// mention puts a row into a user's inbox and has them told.
func (b *bed) mention(users ...string) deliver.Row {
	b.t.Helper()
	r := deliver.Row{ID: b.ids.Next(), Kind: mention, Actor: "ann", Post: b.ids.Next()}
	b.mu.Lock()
	for _, user := range users {
		box := b.inboxes[user]
		box.Unread++
		box.Open = append([]deliver.Row{r}, box.Open...)
		b.inboxes[user] = box
	}
	b.mu.Unlock()
	if err := b.Tell(b.t.Context(), r, users); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// jobs counts the jobs of a queue.
func (b *bed) jobs(queue string) int {
	b.t.Helper()
	n := 0
	for shard := range 4 {
		n += int(b.client.ZCard(b.t.Context(), fmt.Sprintf("notify:jobs:{%s:%d}:due", queue, shard)).Val())
	}
	return n
}

// counter counts what a provider was sent.
type counter struct {
	mu   sync.Mutex
	sent []push.Message
}

func (c *counter) add(m push.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, m)
}

// arrive is a push service that takes everything.
func (c *counter) arrive(_ context.Context, _ push.Target, m push.Message) push.Outcome {
	c.add(m)
	return push.Outcome{Action: push.OK, Reason: push.Delivered}
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent)
}

// What becomes of device, job and letters after each outcome, one attempt each.
func TestOutcomesAreActedOn(t *testing.T) {
	t.Parallel()
	type after struct {
		Devices, Gone, Waiting, Letters int
		Outcome                         string
	}
	tests := map[string]struct {
		outcome push.Outcome
		// left is how long the notification is still worth a push.
		left time.Duration
		want after
	}{
		"ok":                    {push.Outcome{Action: push.OK, Reason: push.Delivered, Status: 201}, time.Hour, after{1, 0, 0, 0, "delivered"}},
		"drop":                  {push.Outcome{Action: push.Drop, Reason: push.TooLarge, Status: 413}, time.Hour, after{1, 0, 0, 0, "too_large"}},
		"gone":                  {push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410}, time.Hour, after{0, 1, 0, 0, ""}},
		"rate limited":          {push.Outcome{Action: push.Retry, Reason: push.RateLimited, RetryAfter: time.Minute, Status: 429}, time.Hour, after{1, 0, 1, 0, "rate_limited"}},
		"rate limited too long": {push.Outcome{Action: push.Retry, Reason: push.RateLimited, RetryAfter: time.Hour, Status: 429}, time.Minute, after{1, 0, 0, 0, "rate_limited"}},
		"unavailable":           {push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 503}, time.Hour, after{1, 0, 1, 0, "unavailable"}},
		"unavailable too long":  {push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeOrigin, Status: 503}, 50 * time.Millisecond, after{1, 0, 0, 1, "unavailable"}},
		"timeout":               {push.Outcome{Action: push.Retry, Reason: push.Timeout, Scope: push.ScopeOrigin}, time.Hour, after{1, 0, 1, 0, "timeout"}},
		"401":                   {push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 401}, time.Hour, after{1, 0, 1, 0, "unauthorized"}},
		"403 for longer":        {push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeOrigin, RetryAfter: time.Hour, Status: 403}, time.Minute, after{1, 0, 0, 1, "unauthorized"}},
		"suspect alone":         {push.Outcome{Action: push.Suspect, Reason: push.BadToken, Scope: push.ScopeOrigin, Guilty: push.Prune, Status: 400}, time.Hour, after{1, 0, 1, 0, "bad_token"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent counter
			b := newBed(t, deliver.Config{MentionTTL: tt.left}, push.Senders{push.FCM: provider(func(_ context.Context, _ push.Target, m push.Message) push.Outcome {
				sent.add(m)
				return tt.outcome
			})})
			b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
			b.mention("bob")
			testenv.Await(t, "the attempt", func() bool { return sent.count() == 1 })
			testenv.Await(t, "the end", func() bool { return b.jobs("tell") == 0 })
			var got after
			testenv.Await(t, "what it leads to", func() bool {
				devices, err := b.devices.List(t.Context(), "bob")
				if err != nil {
					t.Fatal(err)
				}
				b.mu.Lock()
				got = after{Devices: len(devices[0]), Gone: len(b.gone), Letters: len(b.letters)}
				b.mu.Unlock()
				got.Waiting = b.jobs("fcm")
				if got.Devices == 1 {
					got.Outcome = devices[0][0].Last.GetReason()
				}
				return cmp.Equal(tt.want, got)
			})
		})
	}
}

// A provider that hangs keeps only its own: the other one's pushes arrive, and so do
// those of another origin.
func TestHangingProviderDelaysNobody(t *testing.T) {
	t.Parallel()
	var fcm, fast counter
	hangs := provider(func(ctx context.Context, to push.Target, m push.Message) push.Outcome {
		if to.Origin() == "https://fast.example" {
			fast.add(m)
			return push.Outcome{Action: push.OK, Reason: push.Delivered}
		}
		<-ctx.Done()
		return push.Outcome{Action: push.Retry, Reason: push.Timeout, Scope: push.ScopeOrigin}
	})
	// It hangs for longer than anything is awaited here.
	b := newBed(t, deliver.Config{Workers: 8, Timeout: 10 * time.Minute, Lease: time.Hour, Grace: time.Millisecond}, push.Senders{
		push.WebPush: hangs, push.FCM: provider(fcm.arrive),
	})
	const people = 16
	users := b.crowd(people, pb.PushProvider_PUSH_PROVIDER_WEB_PUSH)
	b.mention(users...)
	testenv.Await(t, "the other provider's pushes", func() bool { return fcm.count() == people })
	target := &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: "https://fast.example/1"}
	if err := b.devices.Register(t.Context(), &pb.DeviceRegistered{
		UserId: "zoe", DeviceId: device.ID(device.Target(target, b.clock.Now())), Target: target, RegisterTime: timestamppb.New(b.clock.Now()),
	}, b.ids.Next()); err != nil {
		t.Fatal(err)
	}
	b.mention("zoe")
	// Jobs that wait for a place come again by the clock of the test.
	testenv.Await(t, "the other origin's push", func() bool { b.clock.Advance(20 * time.Millisecond); return fast.count() == 1 })
}

// A provider that fails, or refuses us, keeps its jobs and devices waiting; the other
// one's pushes arrive, and afterwards its own.
func TestFailingProviderDelaysNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		out  push.Outcome
	}{
		{"answers 500", push.Outcome{Action: push.Retry, Reason: push.Unavailable, Scope: push.ScopeProvider, Status: 500}},
		{"refuses our credentials", push.Outcome{Action: push.Pause, Reason: push.Unauthorized, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 403}},
		{"has enough of us", push.Outcome{Action: push.Retry, Reason: push.RateLimited, Scope: push.ScopeProvider, RetryAfter: time.Minute, Status: 429}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var refused, apns, fcm counter
			var well atomic.Bool
			b := newBed(t, deliver.Config{}, push.Senders{
				push.APNs: provider(func(_ context.Context, _ push.Target, m push.Message) push.Outcome {
					if !well.Load() {
						refused.add(m)
						return tt.out
					}
					apns.add(m)
					return push.Outcome{Action: push.OK, Reason: push.Delivered}
				}),
				push.FCM: provider(fcm.arrive),
			})
			const people = 16
			users := b.crowd(people, pb.PushProvider_PUSH_PROVIDER_APNS)
			b.mention(users...)
			testenv.Await(t, "the other provider's pushes and the first refusal", func() bool {
				return fcm.count() == people && refused.count() > 0 && b.jobs("tell") == 0 // all jobs are there
			})
			devices, err := b.devices.List(t.Context(), users...)
			for i, of := range devices {
				if len(of) != 2 {
					t.Errorf("%s has %d devices, want both", users[i], len(of))
				}
			}
			if err != nil || apns.count() != 0 || b.jobs("apns") != people {
				t.Errorf("%d pushes, %d jobs of the provider that fails, %v; want 0, %d", apns.count(), b.jobs("apns"), err, people)
			}
			well.Store(true)
			testenv.Await(t, "its pushes, later", func() bool { b.clock.Advance(time.Second); return apns.count() == people })
			if fcm.count() != people || len(b.letters) != 0 {
				t.Errorf("%d pushes of the other provider, letters %v; want %d, none", fcm.count(), b.letters, people)
			}
		})
	}
}

// A device of FCM that did not register for very long is not sent to until it does;
// other services tell when a device is gone.
func TestStaleDevices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		after    time.Duration // the setting
		age      time.Duration
		provider pb.PushProvider
		want     int
	}{
		{"young enough", 0, 269 * 24 * time.Hour, pb.PushProvider_PUSH_PROVIDER_FCM, 1},
		{"stale", 0, 271 * 24 * time.Hour, pb.PushProvider_PUSH_PROVIDER_FCM, 0},
		{"stale by the operator's setting", 24 * time.Hour, 25 * time.Hour, pb.PushProvider_PUSH_PROVIDER_FCM, 0},
		{"never stale", -1, 999 * 24 * time.Hour, pb.PushProvider_PUSH_PROVIDER_FCM, 1},
		{"of another service", 0, 271 * 24 * time.Hour, pb.PushProvider_PUSH_PROVIDER_APNS, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent counter
			arrives := provider(sent.arrive)
			b := newBed(t, deliver.Config{StaleAfter: tt.after}, push.Senders{push.FCM: arrives, push.APNs: arrives})
			b.register("bob", tt.provider, "token")
			b.clock.Advance(tt.age)
			ended := func() bool { return b.jobs("tell") == 0 && b.jobs("fcm") == 0 && b.jobs("apns") == 0 }
			b.mention("bob")
			testenv.Await(t, "the end", ended)
			if sent.count() != tt.want {
				t.Errorf("%d pushes, want %d", sent.count(), tt.want)
			}
			b.register("bob", tt.provider, "token")
			b.mention("bob")
			testenv.Await(t, "the push to the new registration", func() bool { return sent.count() == tt.want+1 && ended() })
		})
	}
}

// An event that comes again, as after a crash, is not pushed again; nor is one that
// was read before its push was sent.
func TestNobodyIsToldTwiceOrOfWhatTheyRead(t *testing.T) {
	t.Parallel()
	var sent counter
	b := newBed(t, deliver.Config{}, push.Senders{push.FCM: provider(sent.arrive)})
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	r := b.mention("bob")
	testenv.Await(t, "the push", func() bool { return sent.count() == 1 && b.jobs("fcm") == 0 && b.jobs("tell") == 0 })
	// That the push was sent is forgotten; that bob was told is not.
	if err := b.client.Del(t.Context(), b.client.Keys(t.Context(), "notify:sent:*").Val()...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Tell(t.Context(), r, []string{"bob"}); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the end", func() bool { return b.jobs("tell") == 0 && b.jobs("fcm") == 0 })
	read := deliver.Row{ID: b.ids.Next(), Kind: mention, Actor: "ann", Post: b.ids.Next()} // in no inbox: read by now
	if err := b.Tell(t.Context(), read, []string{"bob"}); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the end", func() bool { return b.jobs("tell") == 0 && b.jobs("fcm") == 0 })
	if got := sent.count(); got != 1 {
		t.Errorf("%d pushes were sent, want 1", got)
	}
}

// A device that registers anew while a push finds its old registration gone stays.
func TestPruneSparesANewerRegistration(t *testing.T) {
	t.Parallel()
	var b *bed
	var sent counter
	b = newBed(t, deliver.Config{}, push.Senders{push.FCM: provider(func(_ context.Context, _ push.Target, m push.Message) push.Outcome {
		b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
		sent.add(m)
		return push.Outcome{Action: push.Prune, Reason: push.Gone, Status: 410}
	})})
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	b.mention("bob")
	testenv.Await(t, "the push", func() bool { return sent.count() == 1 && b.jobs("fcm") == 0 })
	devices, err := b.devices.List(t.Context(), "bob")
	if err != nil || len(devices[0]) != 1 || len(b.gone) != 0 {
		t.Errorf("devices = %v, %v, gone %v, want the new registration", devices, err, b.gone)
	}
}

// Three refusals in a row suspend a device until it registers again.
func TestThreeStrikesSuspendADevice(t *testing.T) {
	t.Parallel()
	var sent counter
	b := newBed(t, deliver.Config{}, push.Senders{push.FCM: provider(func(_ context.Context, _ push.Target, m push.Message) push.Outcome {
		sent.add(m)
		return push.Outcome{Action: push.Drop, Reason: push.Rejected, Strike: true, Status: 400}
	})})
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	for n := range 4 {
		b.mention("bob")
		testenv.Await(t, "the end", func() bool { return b.jobs("tell") == 0 && b.jobs("fcm") == 0 })
		if want := min(n+1, 3); sent.count() != want {
			t.Fatalf("after %d mentions %d pushes were sent, want %d", n+1, sent.count(), want)
		}
	}
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	b.mention("bob")
	testenv.Await(t, "the push to the new registration", func() bool { return sent.count() == 4 })
}

// Who had their hour's share waits for the next; what waits is still told then.
func TestHourlyLimit(t *testing.T) {
	t.Parallel()
	var sent counter
	b := newBed(t, deliver.Config{PerHour: 2}, push.Senders{push.FCM: provider(sent.arrive)})
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	for range 3 {
		b.mention("bob")
	}
	testenv.Await(t, "two pushes, and one that waits", func() bool { return sent.count() == 2 && b.jobs("fcm") == 0 && b.jobs("tell") == 1 })
	b.clock.Advance(29 * time.Minute)
	b.mention("cid") // a round of the queue, to give the waiting one its chance
	testenv.Await(t, "the round", func() bool { return b.jobs("tell") == 1 })
	if got := sent.count(); got != 2 {
		t.Fatalf("%d pushes within half an hour, want 2", got)
	}
	b.clock.Advance(2 * time.Minute)
	testenv.Await(t, "the third", func() bool { return sent.count() == 3 && b.jobs("tell") == 0 })
}

// What is read while its push waits to be tried again is not pushed.
func TestReadWhileItsPushWaits(t *testing.T) {
	t.Parallel()
	var sent counter
	b := newBed(t, deliver.Config{}, push.Senders{push.FCM: provider(func(_ context.Context, _ push.Target, m push.Message) push.Outcome {
		sent.add(m)
		return push.Outcome{Action: push.Retry, Reason: push.RateLimited, RetryAfter: time.Minute, Status: 429}
	})})
	b.register("bob", pb.PushProvider_PUSH_PROVIDER_FCM, "token")
	b.mention("bob")
	testenv.Await(t, "the first attempt", func() bool { return sent.count() == 1 && b.jobs("tell") == 0 })
	b.mu.Lock()
	b.inboxes["bob"] = deliver.Inbox{}
	b.mu.Unlock()
	testenv.Await(t, "the end", func() bool { b.clock.Advance(time.Minute); return b.jobs("fcm") == 0 })
	if got := sent.count(); got != 1 {
		t.Errorf("%d attempts, want 1: it was read", got)
	}
}
