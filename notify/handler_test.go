package notify

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/testenv"
)

// Who is told of what. Every event of a story is handled twice.
func TestRecipients(t *testing.T) {
	t.Parallel()
	type inboxes map[string][]string
	for _, tt := range []struct {
		name  string
		story []proto.Message
		want  inboxes
	}{
		{"a follow is told to the followee alone", []proto.Message{
			followed("bob", "ann", levelUnset),
		}, inboxes{"ann": {"follow bob"}, "bob": {}}},
		{"posts are told to followers who asked for them", []proto.Message{
			followed("bob", "ann", levelEvery), followed("cid", "ann", levelNo), followed("dan", "ann", levelUnset),
			posted("ann", 1),
		}, inboxes{"bob": {"post ann 0001"}, "cid": {}, "dan": {}, "ann": {"follow dan", "follow cid", "follow bob"}}},
		{"a fact without a level asks for nothing", []proto.Message{
			followed("bob", "ann", levelUnset), posted("ann", 1),
		}, inboxes{"bob": {}}},
		{"a post before the follow is not told", []proto.Message{
			posted("ann", 1), followed("bob", "ann", levelEvery),
		}, inboxes{"bob": {}}},
		{"a change of level counts from then on, and is no new follow", []proto.Message{
			followed("bob", "ann", levelNo), posted("ann", 1), followed("bob", "ann", levelEvery), posted("ann", 2),
			followed("bob", "ann", levelNo), posted("ann", 3),
		}, inboxes{"bob": {"post ann 0002"}, "ann": {"follow bob"}}},
		{"the end of a follow ends the news", []proto.Message{
			followed("bob", "ann", levelEvery), unfollowed("bob", "ann"), posted("ann", 1),
		}, inboxes{"bob": {}}},
		{"who follows again is one follower", []proto.Message{
			followed("bob", "ann", levelEvery), unfollowed("bob", "ann"), followed("bob", "ann", levelEvery), posted("ann", 1),
		}, inboxes{"bob": {"post ann 0001"}, "ann": {"follow bob"}}},
		{"mentioned users need not follow", []proto.Message{
			posted("ann", 1, "bob", "cid"),
		}, inboxes{"bob": {"mention ann 0001"}, "cid": {"mention ann 0001"}}},
		{"a mention wins over the post", []proto.Message{
			followed("bob", "ann", levelEvery), posted("ann", 1, "bob"),
		}, inboxes{"bob": {"mention ann 0001"}}},
		{"nobody is told of themselves", []proto.Message{
			posted("ann", 1, "ann"),
		}, inboxes{"ann": {}}},
		{"a block hides both from each other, also what is there", []proto.Message{
			posted("ann", 1, "bob"), posted("bob", 2, "ann"), blocked("bob", "ann"),
			posted("ann", 3, "bob"), posted("bob", 4, "ann"), posted("cid", 5, "ann", "bob"),
		}, inboxes{"ann": {"mention cid 0005"}, "bob": {"mention cid 0005"}}},
		{"what was told before a block is back after it, the rest is not", []proto.Message{
			posted("ann", 1, "bob"), blocked("ann", "bob"), posted("ann", 2, "bob"), unblocked("ann", "bob"),
			posted("ann", 3, "bob"),
		}, inboxes{"bob": {"mention ann 0003", "mention ann 0001"}}},
		{"each side lifts only its own block", []proto.Message{
			blocked("ann", "bob"), blocked("bob", "ann"), unblocked("ann", "bob"), posted("ann", 1, "bob"),
		}, inboxes{"bob": {}}},
		{"a mute hides one way", []proto.Message{
			muted("bob", "ann"), posted("ann", 1, "bob"), posted("bob", 2, "ann"), followed("ann", "bob", levelUnset),
		}, inboxes{"bob": {}, "ann": {"mention bob 0002"}}},
		{"a mute ends", []proto.Message{
			muted("bob", "ann"), unmuted("bob", "ann"), posted("ann", 1, "bob"),
		}, inboxes{"bob": {"mention ann 0001"}}},
		{"a deleted post is gone from the inboxes", []proto.Message{
			posted("ann", 1, "bob"), posted("ann", 2, "bob"), deleted("ann", 1),
		}, inboxes{"bob": {"mention ann 0002"}}},
		{"a deleted post that comes again is not told", []proto.Message{
			deleted("ann", 1), posted("ann", 1, "bob"),
		}, inboxes{"bob": {}}},
		{"nobody deletes another one's post", []proto.Message{
			posted("ann", 1, "bob"), deleted("cid", 1), deleted("bob", 1),
		}, inboxes{"bob": {"mention ann 0001"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, miniRedis(t), Config{})
			for _, data := range tt.story {
				w.happen(data)
			}
			for user, want := range tt.want {
				if diff := cmp.Diff(want, w.inbox(user)); diff != "" {
					t.Errorf("inbox of %s (-want +got):\n%s", user, diff)
				}
				if got := w.unread(user); got != len(want) {
					t.Errorf("unread count of %s = %d, want %d", user, got, len(want))
				}
			}
		})
	}
}

// An audience of several pages and pipelines, on every kind of Redis.
func TestLargeAudience(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		const followersOfAnn = 700
		w := newWorld(t, client, Config{PipelineSize: 100})
		for i := range followersOfAnn {
			w.handle(w.event(followed(fmt.Sprintf("fan%04d", i), "ann", levelEvery)))
		}
		w.happen(blocked("fan0007", "ann"))
		w.happen(posted("ann", 1, "fan0001", "zoe"))
		counts := map[string]int{}
		for i := range followersOfAnn {
			for _, row := range w.inbox(fmt.Sprintf("fan%04d", i)) {
				counts[row]++
			}
		}
		want := map[string]int{"post ann 0001": followersOfAnn - 2, "mention ann 0001": 1}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("rows of all fans (-want +got):\n%s", diff)
		}
	})
}

// Facts about one edge that come late, out of poison, change nothing.
func TestLateEdgesAreStale(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		late := func(data proto.Message) func() {
			e := w.event(data)
			w.clock.Advance(time.Minute)
			return func() { w.handle(e) }
		}
		follow := late(followed("bob", "ann", levelEvery))
		unfollow := late(unfollowed("bob", "ann"))
		mute := late(muted("bob", "cid"))
		again := late(followed("bob", "ann", levelEvery))
		unmute := late(unmuted("bob", "cid"))
		for _, deliver := range []func(){again, unmute, unfollow, follow, mute, unfollow} {
			deliver()
		}
		w.happen(posted("ann", 1))
		w.happen(posted("cid", 2, "bob"))
		if diff := cmp.Diff([]string{"mention cid 0002", "post ann 0001"}, w.inbox("bob")); diff != "" {
			t.Errorf("inbox of bob (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"follow bob"}, w.inbox("ann")); diff != "" {
			t.Errorf("inbox of ann (-want +got):\n%s", diff)
		}
	})
}

// A post that is redelivered is not told to whom followed after it.
func TestRedeliveredPostKeepsItsAudience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{})
	w.happen(followed("bob", "ann", levelEvery))
	post := w.event(posted("ann", 1))
	w.handle(post)
	w.happen(followed("cid", "ann", levelEvery))
	w.handle(post)
	for user, want := range map[string][]string{"bob": {"post ann 0001"}, "cid": {}} {
		if diff := cmp.Diff(want, w.inbox(user)); diff != "" {
			t.Errorf("inbox of %s (-want +got):\n%s", user, diff)
		}
	}
}

func TestOldEventsAreNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{Retention: time.Hour})
	first, second := w.event(posted("ann", 1, "bob")), w.event(followed("cid", "bob", levelEvery))
	w.clock.Advance(2 * time.Hour)
	w.handle(first)
	w.handle(second)
	if got := w.inbox("bob"); len(got) != 0 {
		t.Errorf("inbox of bob = %v, want nothing: the events are two hours old", got)
	}
	w.happen(posted("bob", 2))
	if diff := cmp.Diff([]string{"post bob 0002"}, w.inbox("cid")); diff != "" {
		t.Errorf("inbox of cid (-want +got): the follow itself counts\n%s", diff)
	}
}
