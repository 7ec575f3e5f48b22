package notify

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	"activityfeed/notify/device"
	pb "activityfeed/proto/activityfeed/v1"
)

// history is a world whose facts are kept: log of one partition, and what people set.
type history struct {
	*world

	log, settings []event.Event
}

func (h *history) tell(data proto.Message) event.Event {
	h.t.Helper()
	e := h.event(data)
	h.handle(e)
	key, err := event.Key(data)
	if err != nil {
		h.t.Fatal(err)
	}
	if strings.Contains(key, "/") {
		h.settings = append(h.settings, e)
	} else {
		h.log = append(h.log, e)
	}
	return e
}

// read marks a row, or all up to it, and keeps the fact that says so.
func (h *history) read(user string, id event.ID, upTo bool) {
	h.t.Helper()
	m := marks{also: []event.ID{id}, read: true}
	if upTo {
		m = marks{upTo: id, read: true}
	}
	fact := h.event(nil)
	if _, _, err := h.service.store.mark(context.Background(), user, m, fact.ID); err != nil {
		h.t.Fatal(err)
	}
	v, err := h.service.store.view(context.Background(), user)
	if err != nil {
		h.t.Fatal(err)
	}
	fact.Data = marked(user, v)
	h.settings = append(h.settings, fact)
}

// restore plays what cmd and internal/rebuild do; between runs something at each of
// the five steps.
func (h *history) restore(only []string, between func(step int)) RestoreCounts {
	h.t.Helper()
	r, ctx := h.Restore(only, nil), context.Background()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	between(0)
	for _, e := range h.settings {
		must(r.Account(e))
	}
	must(r.SettleAccount(ctx))
	between(1)
	for _, e := range h.log {
		must(r.Hide(e))
	}
	must(r.SettleHidden(ctx))
	between(2)
	end := len(h.log)
	for _, e := range h.log[:end] {
		must(r.Take(ctx, e))
	}
	between(3)
	must(r.SettleFollows(ctx))
	between(4)
	for _, e := range h.log[end:] {
		must(r.Take(ctx, e))
	}
	must(r.Next(ctx))
	return r.Counts()
}

// Whatever people did: who loses Redis and reads the log again sees what the model
// says, and so does the consumer after it.
func TestRestoreAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	client := realRedis(t)
	rapid.Check(t, func(r *rapid.T) {
		flush := func() {
			if err := client.FlushAll(context.Background()).Err(); err != nil {
				r.Fatal(err)
			}
		}
		flush()
		// No inbox gets full: one that does keeps rows of deleted posts, too.
		const rows = 500
		h := &history{world: newWorld(t, client, Config{InboxRows: rows, PipelineSize: 3})}
		h.t = r
		s := &story{world: h.world, model: newModel(rows), lanes: map[string][]event.Event{}, done: map[string][]event.Event{}}
		do := func(data proto.Message) { s.model.apply(h.tell(data)) }
		levels := rapid.SampledFrom([]pb.NotificationLevel{levelUnset, levelNo, levelEvery, levelEvery})
		actions := map[string]func(*rapid.T){
			"post": func(t *rapid.T) {
				author, _ := s.two(t)
				do(posted(author, len(s.posts), rapid.SliceOfNDistinct(rapid.SampledFrom(people), 0, 2, rapid.ID).Draw(t, "mentions")...))
				s.posts = append(s.posts, pair{author, ""})
			},
			"delete": func(t *rapid.T) {
				if len(s.posts) > 0 {
					n := rapid.IntRange(0, len(s.posts)-1).Draw(t, "post")
					do(deleted(s.posts[n][0], n))
				}
			},
			"follow":   func(t *rapid.T) { who, whom := s.two(t); do(followed(who, whom, levels.Draw(t, "level"))) },
			"unfollow": func(t *rapid.T) { who, whom := s.two(t); do(unfollowed(who, whom)) },
			"block":    func(t *rapid.T) { who, whom := s.two(t); do(blocked(who, whom)) },
			"unblock":  func(t *rapid.T) { who, whom := s.two(t); do(unblocked(who, whom)) },
			"mute":     func(t *rapid.T) { who, whom := s.two(t); do(muted(who, whom)) },
			"unmute":   func(t *rapid.T) { who, whom := s.two(t); do(unmuted(who, whom)) },
			"wait":     func(*rapid.T) { h.clock.Advance(3 * time.Second) },
			"read": func(t *rapid.T) {
				user := rapid.SampledFrom(people).Draw(t, "user")
				if inbox := s.model.inboxes[user]; len(inbox) > 0 {
					id, upTo := rapid.SampledFrom(inbox).Draw(t, "row").id, rapid.Bool().Draw(t, "upTo")
					s.model.mark(user, id, upTo)
					h.read(user, id, upTo)
				}
			},
			"lose": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "everything") {
					flush()
				}
				h.restore(nil, func(int) {})
				if lifted := slices.ContainsFunc(h.log, func(e event.Event) bool {
					switch e.Data.(type) {
					case *pb.UserUnblocked, *pb.UserUnmuted:
						return true
					}
					return false
				}); !lifted { // as after a crash; see TestInboxesAgreeWithTheModel
					for _, e := range h.log[len(h.log)-min(len(h.log), 5):] {
						h.handle(e)
					}
				}
			},
			"check": s.check,
		}
		r.Repeat(actions)
		actions["lose"](r)
		s.check(r)
	})
}

func TestRestoreBringsBackWhatRedisLost(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		h := &history{world: newWorld(t, client, Config{})}
		h.tell(followed("r-bob", "r-ann", levelEvery))
		h.tell(followed("r-cid", "r-ann", levelNo))
		first := h.tell(posted("r-ann", 1))
		h.tell(posted("r-ann", 2, "r-cid"))
		h.tell(posted("r-ann", 3, "r-cid"))
		h.tell(deleted("r-ann", 3))
		h.tell(blocked("r-cid", "r-eve"))
		h.tell(posted("r-eve", 4, "r-cid"))
		h.tell(unblocked("r-cid", "r-eve"))
		h.tell(followed("r-dan", "r-ann", levelNo))
		h.tell(unfollowed("r-dan", "r-ann"))
		again := h.tell(followed("r-dan", "r-ann", levelNo))
		h.read("r-bob", first.ID, true)
		h.tell(&pb.PreferencesSet{UserId: "r-bob", Preferences: &pb.NotificationPreferences{Locale: "de"}})
		phone := &pb.DeviceRegistered{
			UserId: "r-bob", DeviceId: "r123456789012345678901", RegisterTime: timestamppb.Now(),
			Target: &pb.PushTarget{Provider: pb.PushProvider_PUSH_PROVIDER_FCM, Token: "t"},
		}
		h.tell(phone)
		sold := proto.CloneOf(phone)
		sold.DeviceId, sold.UserId = "r223456789012345678901", "r-bob"
		h.tell(sold)
		h.tell(&pb.DeviceRemoved{UserId: "r-bob", DeviceId: sold.GetDeviceId()})

		users := []string{"r-ann", "r-bob", "r-cid", "r-eve"}
		lose := func(keys ...string) {
			for _, key := range keys {
				if err := client.Del(t.Context(), key).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		everything := func() {
			for _, user := range users {
				lose(inboxKey(user), personKey(user), deletedKey(user), device.Key(user))
				for _, r := range []relation{followers, subscribers, blocks, blockedBy, mutes, mutedBy} {
					lose(r.key(user), r.endedKey(user))
				}
			}
			lose("notify:owner:{" + phone.GetDeviceId() + "}")
		}
		check := func(name string) {
			t.Helper()
			h.handle(again) // as after a crash: one follower, one row
			for user, want := range map[string][]string{
				"r-ann": {"follow r-dan", "follow r-cid", "follow r-bob"}, "r-bob": {"post r-ann 0002", "post r-ann 0001 read"}, "r-cid": {"mention r-ann 0002"}, "r-eve": {},
			} {
				if diff := gocmp.Diff(want, h.inbox(user)); diff != "" {
					t.Errorf("after losing %s: inbox of %s (-want +got):\n%s", name, user, diff)
				}
			}
			if n := h.unread("r-bob"); n != 1 {
				t.Errorf("after losing %s: %d unread, want 1", name, n)
			}
			devices, err := h.service.devices.List(t.Context(), "r-bob")
			if err != nil || len(devices[0]) != 1 || devices[0][0].ID != phone.GetDeviceId() {
				t.Errorf("after losing %s: devices %v, %v, want the phone", name, devices, err)
			}
			if p, err := h.service.store.preferences(t.Context(), []string{"r-bob"}); err != nil || p[0].GetLocale() != "de" {
				t.Errorf("after losing %s: preferences %v, %v, want those of German", name, p, err)
			}
		}
		check("nothing")
		for name, lost := range map[string]func(){
			"everything":   everything,
			"nothing":      func() {},
			"an inbox":     func() { lose(inboxKey("r-bob")) },
			"the deletes":  func() { lose(deletedKey("r-ann")) },
			"the settings": func() { lose(personKey("r-bob"), device.Key("r-bob")) },
		} {
			lost()
			h.restore(nil, func(int) {})
			check(name)
		}

		// Some only: nobody else is touched.
		everything()
		h.restore([]string{"r-cid"}, func(int) {})
		if got := [][]string{h.inbox("r-bob"), h.inbox("r-cid")}; len(got[0]) != 0 || len(got[1]) != 1 {
			t.Errorf("inboxes after a restore of cid = %q, want cid's alone", got)
		}
	})
}

// What happens while the followers are not there is told all the same, and what ended
// meanwhile stays ended.
func TestRestoreTakesWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	client := realRedis(t)
	for step := range 5 {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		h := &history{world: newWorld(t, client, Config{})}
		h.tell(followed("bob", "ann", levelEvery))
		h.tell(followed("cid", "ann", levelEvery))
		h.tell(posted("ann", 1))
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		h.clock.Advance(time.Minute)
		h.restore(nil, func(at int) {
			if at == step {
				h.tell(unfollowed("cid", "ann"))
				h.tell(posted("ann", 2))
			}
		})
		h.tell(posted("ann", 3))
		if diff := gocmp.Diff([]string{"post ann 0003", "post ann 0002", "post ann 0001"}, h.inbox("bob")); diff != "" {
			t.Errorf("step %d: inbox of bob (-want +got):\n%s", step, diff)
		}
		if diff := gocmp.Diff([]string{"post ann 0001"}, h.inbox("cid")); diff != "" {
			t.Errorf("step %d: inbox of cid (-want +got):\n%s", step, diff)
		}
	}
}
