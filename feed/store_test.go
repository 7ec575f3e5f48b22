package feed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestPostReachesFollowersAndTheAuthor(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"), followed("cat", "ann"))
		p.wantHome(t, "bob") // warm from here on; cat stays cold
		first, second := p.post(t, "ann"), p.post(t, "ann")

		if got, want := w.list(t, "bob"), []string{second, first, sentinel}; !slices.Equal(got, want) {
			t.Errorf("list of a warm feed = %v, want %v", got, want)
		}
		if got := w.list(t, "cat"); len(got) != 0 {
			t.Errorf("list of a cold feed = %v, want none", got)
		}
		for _, user := range []string{"ann", "bob", "cat"} {
			p.wantHome(t, user, second, first)
		}
		p.wantHome(t, "dan")
	})
}

func TestEntriesAreKeptAsIntegers(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		if w.clock.mini != nil {
			t.Skip("needs a Redis with encodings: the redis row")
		}
		p := w.process(t, Config{})
		ids := make([]event.ID, 800)
		for i := range ids {
			ids[i] = w.ids.Next()
		}
		slices.Reverse(ids)
		argv := []any{"B1", 800, 1000000, 0}
		for _, id := range ids {
			argv = append(argv, id.String())
		}
		w.raw.RPush(t.Context(), feedKey("bob"), "B1")
		cmd := installScript.Int(t.Context(), []string{feedKey("bob"), pulledKey("bob"), editionKey("bob")}, argv...)
		if err := p.store.writes.do(t.Context(), cmd); err != nil || cmd.Val() != 1 {
			t.Fatalf("install = %d, %v", cmd.Val(), err)
		}
		used, err := w.raw.MemoryUsage(t.Context(), feedKey("bob"), 0).Result()
		if err != nil || used > 800*11 {
			t.Errorf("800 entries use %d bytes, %v; want 11 an entry at most", used, err)
		}
	})
}

func TestPagesGoOnPastTheStoredList(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"), followed("bob", "cat"))
		p.wantHome(t, "bob")
		var want []string
		for i := range 40 {
			want = append(want, p.post(t, []string{"ann", "cat"}[i%2]))
			w.clock.Advance(time.Minute)
		}
		slices.Reverse(want)
		list := w.list(t, "bob")
		if len(list) > 10 || slices.Contains(list, sentinel) {
			t.Errorf("list = %v, want at most 10 entries without a sentinel", list)
		}
		p.wantHome(t, "bob", want...)

		// The same for a feed that was built from many posts.
		w.raw.Del(t.Context(), feedKey("bob"))
		p.wantHome(t, "bob", want...)
		if list := w.list(t, "bob"); !slices.Equal(list, want[:8]) {
			t.Errorf("list after a build = %v, want %v", list, want[:8])
		}
	})
}

func TestPagesGoOnPastTheListOfABusyFeed(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob")
		var want []string
		for range 30 { // all within the disorder
			want = append(want, p.post(t, "ann"))
			w.clock.Advance(time.Second)
		}
		slices.Reverse(want)
		p.wantHome(t, "bob", want...)
	})
}

func TestLatePushesFindTheirPlace(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"), followed("bob", "cat"))
		p.wantHome(t, "bob")
		var ids []string
		for range 4 {
			ids = append(ids, p.post(t, "ann"))
			w.clock.Advance(10 * time.Minute)
		}
		for _, back := range []time.Duration{2 * time.Minute, 15 * time.Minute, 25 * time.Minute, time.Hour} {
			at := w.clock.Now().Add(-back)
			id := event.FirstID(at) + 1
			p.apply(t, posted("cat", id, at))
			ids = append(ids, id.String())
		}
		want := newestFirst(ids...)
		if got := w.list(t, "bob"); !slices.Equal(got, append(slices.Clone(want), sentinel)) {
			t.Errorf("list = %v, want %v and the sentinel", got, want)
		}
		p.wantHome(t, "bob", want...)
	})
}

func TestLatePushStaysOutOfATrimmedList(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"), followed("bob", "cat"))
		p.wantHome(t, "bob")
		start := w.clock.Now()
		var ids []string
		for range 20 {
			w.clock.Advance(10 * time.Minute)
			ids = append(ids, p.post(t, "ann"))
		}
		id := event.FirstID(start.Add(time.Minute))
		p.apply(t, posted("cat", id, start))
		if slices.Contains(w.list(t, "bob"), id.String()) {
			t.Errorf("list = %v holds %v: it claims to be complete down to there", w.list(t, "bob"), id)
		}
		p.wantHome(t, "bob", newestFirst(append(ids, id.String())...)...)
	})
}

func TestRepeatsChangeNothing(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		post := posted("ann", w.ids.Next(), w.clock.Now())
		other := posted("ann", w.ids.Next(), w.clock.Now())
		facts := []proto.Message{
			followed("bob", "ann"), followed("cat", "ann"), unfollowed("cat", "ann"), followed("dan", "ann"),
			post, other, deleted("ann", other.GetPhoto().GetPostId()),
			&pb.UserBlocked{ActorId: "dan", TargetId: "ann"},
			&pb.UserMuted{ActorId: "bob", TargetId: "cat"}, &pb.UserUnmuted{ActorId: "bob", TargetId: "cat"},
		}
		var before map[string]string
		for i, fact := range facts {
			e := w.event(fact)
			for attempt := range 3 {
				if err := p.deliver(t.Context(), e, 1+attempt); err != nil {
					t.Fatal(err)
				}
				// The feeds are warm in between, so that a repeat meets its first effect.
				p.wantHomes(t)
				after := w.dump(t)
				if attempt > 0 && !equalMaps(before, after) {
					t.Errorf("fact %d (%T), delivery %d: the store changed\nfrom %v\nto   %v", i, fact, attempt+1, before, after)
				}
				before = after
			}
		}
		p.wantHome(t, "bob", post.GetPhoto().GetPostId())
		p.wantHome(t, "cat")
		p.wantHome(t, "dan")
	})
}

// wantHomes warms the feeds of all users of a test.
func (p *process) wantHomes(t testing.TB) {
	t.Helper()
	for _, user := range []string{"ann", "bob", "cat", "dan"} {
		if _, err := p.home(t.Context(), user, 2, true); err != nil {
			t.Fatal(err)
		}
	}
}

// dump returns all that Redis holds, apart from generations and expiries.
func (w *world) dump(t testing.TB) map[string]string {
	t.Helper()
	ctx, all := t.Context(), map[string]string{}
	var mu sync.Mutex
	var keys []string
	if err := w.everyNode(ctx, func(ctx context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, node.Keys(ctx, "*").Val()...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "edition:") || key == newsKey {
			continue // random names; and news, which may come again
		}
		switch kind := w.raw.Type(ctx, key).Val(); kind {
		case "list":
			all[key] = strings.Join(w.raw.LRange(ctx, key, 0, -1).Val(), " ")
		case "hash":
			entries := w.raw.HGetAll(ctx, key).Val()
			delete(entries, generationField)
			all[key] = fmt.Sprint(entries)
		case "set":
			all[key] = strings.Join(slices.Sorted(slices.Values(w.raw.SMembers(ctx, key).Val())), " ")
		default:
			all[key] = w.raw.Get(ctx, key).Val()
		}
	}
	return all
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func TestRedeliveryHealsAMisplacedCopy(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob")
		old := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
		if err := p.deliver(t.Context(), old, 1); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(10 * time.Minute)
		newer := p.post(t, "ann")
		id := old.Data.(*pb.PhotoPosted).GetPhoto().GetPostId()
		// A push that hung in a connection lands now, in front.
		w.raw.LPush(t.Context(), feedKey("bob"), id)
		p.wantHome(t, "bob", newer, id)
		if err := p.deliver(t.Context(), old, 2); err != nil {
			t.Fatal(err)
		}
		if got, want := w.list(t, "bob"), []string{newer, id, sentinel}; !slices.Equal(got, want) {
			t.Errorf("list = %v, want %v", got, want)
		}
	})
}

func TestAPushThatAnUnfollowOvertookShowsNothing(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		here, there := w.process(t, smallConfig()), w.process(t, smallConfig())
		here.apply(t, followed("bob", "ann"))
		here.wantHome(t, "bob")
		here.post(t, "ann") // the scripts are known, so calls can be counted
		w.clock.Advance(5 * time.Second)
		stale := w.event(posted("ann", w.ids.Next(), w.clock.Now()))
		here.tap.arm(2, func() { // it knows the followers, and hangs before the push
			there.apply(t, unfollowed("bob", "ann"))
			there.wantHome(t, "bob")
		}, 0, false)
		if err := here.deliver(t.Context(), stale, 1); err != nil {
			t.Fatal(err)
		}
		if got := w.list(t, "bob"); len(got) != 2 || got[0] != postID(stale) {
			t.Fatalf("list = %v: the test did not bring about what it is for", got)
		}
		there.wantHome(t, "bob")
	})
}

func TestAuthorListIsSortedAndUnique(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		var ids []string
		for range 9 {
			w.clock.Advance(time.Second)
			ids = append(ids, w.ids.Next().String())
		}
		for _, i := range []int{4, 2, 8, 0, 6, 1, 3, 5, 7, 4, 0, 8, 1} {
			id, err := event.ParseID(ids[i])
			if err != nil {
				t.Fatal(err)
			}
			p.apply(t, posted("ann", id, w.clock.Now()))
		}
		got := w.raw.LRange(t.Context(), authorKey("ann"), 0, -1).Val()
		if want := newestFirst(ids...); !slices.Equal(got, want) {
			t.Errorf("author list = %v, want %v", got, want)
		}
	})
}

func TestDeletes(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob")
		kept, gone := p.post(t, "ann"), p.post(t, "ann")

		p.apply(t, deleted("mallory", kept)) // not hers
		p.apply(t, deleted("ann", gone))
		p.wantHome(t, "bob", kept)
		if got := w.raw.LRange(t.Context(), authorKey("ann"), 0, -1).Val(); !slices.Equal(got, []string{kept}) {
			t.Errorf("author list = %v, want %v", got, []string{kept})
		}

		// Deletes that come before their post bind their own author alone.
		late := posted("ann", w.ids.Next(), w.clock.Now())
		foreign := posted("ann", w.ids.Next(), w.clock.Now())
		lateID, foreignID := late.GetPhoto().GetPostId(), foreign.GetPhoto().GetPostId()
		p.apply(t, deleted("ann", lateID), deleted("mallory", lateID), deleted("mallory", foreignID))
		p.apply(t, late, foreign)
		p.wantHome(t, "bob", foreignID, kept)

		if _, err := p.api.GetPost(t.Context(), &pb.GetPostRequest{UserId: "bob", PostId: gone}); fault.KindOf(err) != fault.NotFound {
			t.Errorf("GetPost of a deleted post: %v, want not found", err)
		}
		r, err := p.api.GetPost(t.Context(), &pb.GetPostRequest{UserId: "bob", PostId: kept})
		if err != nil || r.GetPhoto().GetPostId() != kept || r.GetPhoto().GetCaption() != "by ann" {
			t.Errorf("GetPost = %v, %v", r, err)
		}
	})
}

func TestPagesStayFullOverDeletes(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob")
		var ids []string
		for range 30 {
			w.clock.Advance(5 * time.Minute)
			ids = append(ids, p.post(t, "ann"))
		}
		first, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 5})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i, id := range ids {
			if i%3 == 0 {
				want = append(want, id)
			} else {
				p.apply(t, deleted("ann", id)) // also the one that the cursor stands on
			}
		}
		want = newestFirst(want...)
		p.wantHome(t, "bob", want...)
		rest, err := scroll(5, first.GetNextPageToken(), true, func(token string) ([]*pb.Photo, string, bool, error) {
			r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 5, PageToken: token})
			return r.GetPhotos(), r.GetNextPageToken(), r.GetHasMore(), err
		})
		last := first.GetPhotos()[4].GetPostId()
		want = slices.DeleteFunc(want, func(id string) bool { return id >= last })
		if err != nil || !slices.Equal(rest, want) {
			t.Errorf("pages after %s = %v, %v, want %v", last, rest, err, want)
		}
	})
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		p.wantHome(t, "bob")
		w.raw.ScriptFlush(t.Context())
		id := p.post(t, "ann")
		w.raw.ScriptFlush(t.Context())
		p.wantHome(t, "bob", id)
	})
}

func TestReadingKeepsAFeedWarm(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, Config{ColdAfter: time.Hour})
	p.wantHome(t, "bob")
	for range 5 {
		w.clock.Advance(30 * time.Minute)
		p.wantHome(t, "bob")
		if len(w.list(t, "bob")) == 0 {
			t.Fatal("the feed went cold while it was read")
		}
	}
	w.clock.Advance(61 * time.Minute)
	if got := w.list(t, "bob"); len(got) != 0 {
		t.Errorf("list = %v, want none: nobody read it for an hour", got)
	}
}
