package notify

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/durationpb"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/deliver"
	"activityfeed/notify/push"
	"activityfeed/notify/push/webpush"
	pb "activityfeed/proto/activityfeed/v1"
)

// phones is a pipeline with a Web Push service of its own.
type phones struct {
	*pipeline

	service *pushservice.WebPush
	subs    map[string]*pushservice.Subscription
}

func newPhones(t *testing.T, client redis.UniversalClient, cfg Config) *phones {
	t.Helper()
	service, err := pushservice.StartWebPush(pushservice.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	sender, err := webpush.New(webpush.Config{
		Subject: "mailto:ops@example.com", KeyFile: filepath.Join(t.TempDir(), "vapid.pem"), PrivateOrigins: []string{service.URL()},
	}, webpush.Deps{Log: testenv.Logger(t), RootCAs: service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	cfg.Push.Poll = 20 * time.Millisecond
	p := newPushPipeline(t, "notify", testenv.Kafka(t), client, cfg, push.Senders{push.WebPush: sender})
	return &phones{pipeline: p, service: service, subs: make(map[string]*pushservice.Subscription)}
}

// register gives a user a new browser, and returns its device id.
func (p *phones) register(user string) string {
	p.t.Helper()
	sub, err := p.service.Subscribe()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.registerAs(user, sub, "")
}

func (p *phones) registerAs(user string, sub *pushservice.Subscription, previous string) string {
	p.t.Helper()
	resp, err := p.Notify.service.RegisterDevice(p.t.Context(), &pb.RegisterDeviceRequest{
		UserId: user, Label: "a browser", PreviousDeviceId: previous, Target: &pb.PushTarget{
			Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: sub.Endpoint, P256Dh: sub.P256dh, Auth: sub.Auth, Silent: true,
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.subs[resp.GetDeviceId()] = sub
	return resp.GetDeviceId()
}

// got returns what a device shows: "title|body|badge", in the order of arrival.
func (p *phones) got(device string) []string {
	p.t.Helper()
	lines := []string{}
	for _, received := range p.service.Received() {
		if p.subs[device] == nil || !strings.HasSuffix(p.subs[device].Endpoint, received.Device) {
			continue
		}
		var shown struct {
			Title, Body string
			Badge       int
			Silent      bool
		}
		if err := json.Unmarshal(received.Body, &shown); err != nil {
			p.t.Fatalf("a push is not JSON: %v: %s", err, received.Body)
		}
		line := fmt.Sprintf("%s|%s|%d", shown.Title, shown.Body, shown.Badge)
		if shown.Silent {
			line = fmt.Sprintf("silent|%d", shown.Badge)
		}
		lines = append(lines, line)
	}
	return lines
}

func (p *phones) shows(device string, want ...string) {
	p.t.Helper()
	var got []string
	testenv.Await(p.t, "pushes to "+device, func() bool { got = p.got(device); return len(got) >= len(want) })
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("pushes to %s (-want +got):\n%s", device, diff)
	}
}

func (p *phones) prefer(user string, preferences *pb.NotificationPreferences) {
	p.t.Helper()
	_, err := p.Notify.service.SetNotificationPreferences(p.t.Context(), &pb.SetNotificationPreferencesRequest{UserId: user, Preferences: preferences})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *phones) devices(user string) []*pb.Device {
	p.t.Helper()
	resp, err := p.Notify.service.ListDevices(p.t.Context(), &pb.ListDevicesRequest{UserId: user})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.GetDevices()
}

// One photo's way from the log to a person's browsers, encrypted for each.
func TestMentionReachesEveryBrowser(t *testing.T) {
	t.Parallel()
	p := newPhones(t, realRedis(t), Config{})
	phone, laptop := p.register("bob"), p.register("bob")
	p.publish(posted("ann", 1, "bob"))
	p.shows(phone, "ann mentioned you||1")
	p.shows(laptop, "ann mentioned you||1")
	testenv.Await(t, "the outcomes", func() bool {
		return !slices.ContainsFunc(p.devices("bob"), func(d *pb.Device) bool { return d.GetLastOutcome().GetReason() != "delivered" })
	})

	// In German, with what else is unread.
	p.prefer("bob", &pb.NotificationPreferences{Locale: "de"})
	p.publish(posted("cid", 2, "bob"))
	p.shows(phone, "ann mentioned you||1", "cid hat dich erwähnt|2 ungelesen|2")

	// Read on the phone: the laptop's badge goes, without a sound.
	newest := p.newest("bob")
	if _, err := p.Notify.service.MarkRead(t.Context(), &pb.MarkReadRequest{
		UserId: "bob", DeviceId: phone, What: &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: newest},
	}); err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(5 * time.Second)
	p.shows(laptop, "ann mentioned you||1", "cid hat dich erwähnt|2 ungelesen|2", "silent|0")

	// The laptop is cid's now: bob is not told there any more.
	p.registerAs("cid", p.subs[laptop], "")
	p.publish(posted("ann", 3, "bob", "cid"))
	p.shows(phone, "ann mentioned you||1", "cid hat dich erwähnt|2 ungelesen|2", "ann hat dich erwähnt||1")
	p.shows(laptop, "ann mentioned you||1", "cid hat dich erwähnt|2 ungelesen|2", "silent|0", "ann mentioned you||1")
	if got := len(p.devices("bob")); got != 1 {
		t.Errorf("bob has %d devices, want the phone alone", got)
	}

	// A test push says at once what came of it; a browser that is gone is removed.
	p.service.Unsubscribe(p.subs[phone])
	resp, err := p.Notify.service.SendTestPush(t.Context(), &pb.SendTestPushRequest{UserId: "bob", DeviceId: phone})
	if err != nil || resp.GetOutcome().GetReason() != "gone" {
		t.Errorf("SendTestPush = %v, %v, want gone", resp, err)
	}
	if got := len(p.devices("bob")); got != 0 {
		t.Errorf("bob has %d devices, want none", got)
	}
	if faults := p.service.Faults(); len(faults) > 0 {
		t.Errorf("the push service complains: %v", faults)
	}
}

func (p *phones) newest(user string) string {
	p.t.Helper()
	resp, err := p.Notify.service.ListNotifications(p.t.Context(), &pb.ListNotificationsRequest{UserId: user, PageSize: 1})
	if err != nil || len(resp.GetNotifications()) == 0 {
		p.t.Fatalf("inbox of %s: %v, %v", user, resp, err)
	}
	return resp.GetNotifications()[0].GetNotificationId()
}

// What a person set decides what is pushed, when, and how much at once.
func TestPreferencesDecide(t *testing.T) {
	t.Parallel()
	p := newPhones(t, realRedis(t), Config{})
	bob, cid, dan, eve := p.register("bob"), p.register("cid"), p.register("dan"), p.register("eve")
	post, mention := pb.NotificationType_NOTIFICATION_TYPE_POST, pb.NotificationType_NOTIFICATION_TYPE_MENTION
	p.prefer("cid", &pb.NotificationPreferences{Types: []*pb.TypePreference{{Type: post, Push: pb.Toggle_TOGGLE_OFF}}})
	p.prefer("dan", &pb.NotificationPreferences{Types: []*pb.TypePreference{{Type: post, Inbox: pb.Toggle_TOGGLE_OFF}}})
	// Quiet until an hour from now.
	minute := func(d time.Duration) int32 {
		at := p.clock.Now().UTC().Add(d)
		return int32(60*at.Hour() + at.Minute())
	}
	p.prefer("eve", &pb.NotificationPreferences{
		QuietHours: &pb.QuietHours{StartMinute: minute(-time.Hour), EndMinute: minute(time.Hour)},
		Types:      []*pb.TypePreference{{Type: mention, Coalesce: durationpb.New(0)}},
	})
	for _, user := range []string{"bob", "cid", "dan", "eve"} {
		p.publish(followed(user, "ann", levelEvery))
	}
	for n := range 5 {
		p.publish(posted("ann", n+1))
	}
	p.publish(posted("ann", 6, "eve"))
	testenv.Await(t, "cid's inbox", func() bool { return p.unread("cid") == 6 })
	p.publish(posted("zoe", 7, "cid"))
	p.shows(cid, "zoe mentioned you|7 unread|7")
	testenv.Await(t, "bob's inbox", func() bool { return p.unread("bob") == 6 })
	if got := p.got(bob); len(got) != 0 {
		t.Errorf("bob was told within the window of a burst: %v", got)
	}
	p.clock.Advance(40 * time.Second)
	// Six posts are one push that says how many.
	p.shows(bob, "ann posted 6 photos||6")
	if got := p.inbox("dan"); len(got) != 0 {
		t.Errorf("dan's inbox = %v, want nothing: it is off", got)
	}
	if got := p.got(eve); len(got) != 0 {
		t.Errorf("eve was told in quiet hours: %v", got)
	}
	p.clock.Advance(61 * time.Minute)
	testenv.Await(t, "eve to be told in the morning", func() bool { return len(p.got(eve)) == 2 })
	got := p.got(eve)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"ann mentioned you|6 unread|6", "ann posted 5 photos|6 unread|6"}, got); diff != "" {
		t.Errorf("pushes to eve after the quiet hours (-want +got):\n%s", diff)
	}
	if got := p.got(dan); len(got) != 0 {
		t.Errorf("dan was told: %v", got)
	}
}

// Whoever throws Redis away finds devices, preferences and marks in the log.
func TestWhatPeopleSetOutlivesRedis(t *testing.T) {
	t.Parallel()
	p := newPhones(t, realRedis(t), Config{})
	device := p.register("bob")
	p.prefer("bob", &pb.NotificationPreferences{Locale: "es"})
	for n := range 4 {
		p.publish(posted("ann", n+1, "bob"))
	}
	testenv.Await(t, "the inbox", func() bool { return p.unread("bob") == 4 })
	ids := p.ids4("bob")
	for _, what := range []*pb.MarkReadRequest{
		{UserId: "bob", What: &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: ids[3]}},
		{UserId: "bob", What: &pb.MarkReadRequest_NotificationId{NotificationId: ids[1]}},
	} {
		if _, err := p.Notify.service.MarkRead(t.Context(), what); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Notify.service.MarkNotificationsSeen(t.Context(), &pb.MarkNotificationsSeenRequest{UserId: "bob", UpToNotificationId: ids[1]}); err != nil {
		t.Fatal(err)
	}
	before, brokers := p.inbox("bob"), p.brokers
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	// Another Redis, another group: all is read again.
	again := newPushPipeline(t, "notify-again", brokers, realRedis(t), Config{}, p.deps.Senders)
	again.becomes("bob", before...)
	again.becomesCounts("bob", 2, 1)
	testenv.Await(t, "the device", func() bool {
		resp, err := again.service.ListDevices(t.Context(), &pb.ListDevicesRequest{UserId: "bob"})
		return err == nil && len(resp.GetDevices()) == 1 && resp.GetDevices()[0].GetDeviceId() == device
	})
	testenv.Await(t, "the preferences", func() bool {
		resp, err := again.service.GetNotificationPreferences(t.Context(), &pb.GetNotificationPreferencesRequest{UserId: "bob"})
		return err == nil && resp.GetPreferences().GetLocale() == "es"
	})
}

func (p *phones) ids4(user string) []string {
	p.t.Helper()
	resp, err := p.Notify.service.ListNotifications(p.t.Context(), &pb.ListNotificationsRequest{UserId: user})
	if err != nil {
		p.t.Fatal(err)
	}
	var ids []string
	for _, n := range resp.GetNotifications() {
		ids = append(ids, n.GetNotificationId())
	}
	return ids
}

func (p *pipeline) becomesCounts(user string, unread, unseen int32) {
	p.t.Helper()
	var resp *pb.GetUnreadCountResponse
	testenv.Await(p.t, fmt.Sprintf("%d unread and %d unseen of %s", unread, unseen, user), func() bool {
		var err error
		resp, err = p.service.GetUnreadCount(p.t.Context(), &pb.GetUnreadCountRequest{UserId: user})
		return err == nil && resp.GetUnreadCount() == unread && resp.GetUnseenCount() == unseen
	})
}

func TestBadTargetsAreRefused(t *testing.T) {
	t.Parallel()
	p := newPhones(t, miniRedis(t), Config{})
	sub, err := p.service.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		target *pb.PushTarget
		field  string
	}{
		"no such provider here": {&pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: "t"}, "target.provider"},
		"an inner address":      {&pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: "https://169.254.169.254/x", P256Dh: sub.P256dh, Auth: sub.Auth}, "target.endpoint"},
		"no key":                {&pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: sub.Endpoint, Auth: sub.Auth}, "target.p256dh"},
		"a short secret":        {&pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: sub.Endpoint, P256Dh: sub.P256dh, Auth: []byte("x")}, "target.auth"},
	} {
		_, err := p.Notify.service.RegisterDevice(t.Context(), &pb.RegisterDeviceRequest{UserId: "bob", Target: tt.target})
		if f := fault.Of(err); f == nil || f.Kind != fault.InvalidArgument || f.Field != tt.field {
			t.Errorf("%s: RegisterDevice = %v, want InvalidArgument of %s", name, err, tt.field)
		}
	}
	if got := len(p.devices("bob")); got != 0 {
		t.Errorf("bob has %d devices, want none", got)
	}
}

// A push that was given up is a letter; the replay of it is another push.
func TestGivenUpPushIsALetterAndCanBeReplayed(t *testing.T) {
	t.Parallel()
	// The lease outlives the jump of the clock.
	p := newPhones(t, realRedis(t), Config{Push: deliver.Config{MentionTTL: time.Hour, Lease: 2 * time.Hour}})
	device := p.register("bob")
	// It becomes too late while the push is under way, so that its failure is the last.
	p.service.Script(func(pushservice.Push) *pushservice.Reply {
		p.clock.Advance(time.Hour)
		return &pushservice.Reply{Status: 503}
	})
	e := p.event(posted("ann", 1, "bob"))
	msg, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	p.send(event.Topic, msg)
	letter := p.poison(1)[0]
	if len(p.devices("bob")) != 1 {
		t.Error("a device was pruned because of a 503")
	}
	if strings.Contains(fmt.Sprint(letter.Metadata, string(letter.Payload)), p.subs[device].Endpoint) {
		t.Error("the letter shows the endpoint")
	}
	p.service.Script(nil)
	tried := len(p.got(device))
	l, _, err := middleware.ParseLetter(letter)
	if err != nil {
		t.Fatal(err)
	}
	p.send(event.RetryTopic(serviceName), l.Replay())
	testenv.Await(t, "the push", func() bool { return len(p.got(device)) > tried })
	if got := p.got(device); got[tried] != "ann mentioned you||1" {
		t.Errorf("the replayed push is %q", got[tried])
	}
}
