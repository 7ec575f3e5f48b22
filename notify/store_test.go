package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

const mention = pb.NotificationType_NOTIFICATION_TYPE_MENTION

// stored returns the ids of an inbox, as offsets from base.
func (w *world) stored(user string, base event.ID) []int {
	w.t.Helper()
	v, err := w.service.store.view(context.Background(), user)
	if err != nil {
		w.t.Fatal(err)
	}
	ids := make([]int, 0, len(v.entries))
	for _, e := range v.entries {
		ids = append(ids, int(e.id-base))
	}
	return ids
}

// However rows come, an inbox is the newest of them, sorted, each once.
func TestInboxIsTheNewestRowsInAnyOrder(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		for _, rows := range []int{10, 150} {
			w := newWorld(t, client, Config{InboxRows: rows})
			base := w.ids.Next()
			for round := range 200 / rows {
				user := fmt.Sprintf("user%d.%d", rows, round)
				rnd := rand.New(rand.NewPCG(uint64(round), 1))
				var added []int
				seen := make([]int, 0, 6*rows)
				for range 6 * rows {
					n := 1 + rnd.IntN(5*rows/2)
					got, _, err := w.service.store.insert(t.Context(), row{id: base + event.ID(n), kind: mention, actor: "ann", post: base}, []string{user})
					if err != nil {
						t.Fatal(err)
					}
					fits := len(added) < rows || n > slices.Min(added)
					if want := fits && !slices.Contains(added, n); (got == 1) != want {
						t.Fatalf("insert(%d) into %v = %d, want new: %t", n, added, got, want)
					}
					if got == 1 {
						added = append(added, n)
						slices.SortFunc(added, func(a, b int) int { return b - a })
						added = added[:min(len(added), rows)]
					}
					seen = append(seen, n)
				}
				if diff := cmp.Diff(added, w.stored(user, base)); diff != "" {
					t.Errorf("rows after %v (-want +got):\n%s", seen, diff)
				}
			}
		}
	})
}

// Ids that a double would take for equal, and the bytes that a signed or a
// locale-bound comparison would misjudge.
func TestInboxOrderIsExact(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{Retention: 100 * 365 * day})
		ids := []event.ID{
			1_500_000_000_000_000_000, 1_500_000_000_000_000_001, 1_500_000_000_000_000_127, 1_500_000_000_000_000_128,
			1_500_000_000_000_000_255, 1_500_000_000_000_000_256, 1_500_000_000_000_065_535, 9_200_000_000_000_000_000,
		}
		want := slices.Clone(ids)
		slices.Reverse(want)
		for round := range 10 {
			user := fmt.Sprintf("user%d", round)
			rand.New(rand.NewPCG(uint64(round), 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			for _, id := range ids {
				if _, _, err := w.service.store.insert(t.Context(), row{id: id, kind: mention, actor: "ann", post: id}, []string{user}); err != nil {
					t.Fatal(err)
				}
			}
			v, err := w.service.store.view(t.Context(), user)
			if err != nil {
				t.Fatal(err)
			}
			got := []event.ID{}
			for _, e := range v.entries {
				got = append(got, e.id)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rows of %v (-want +got):\n%s", ids, diff)
			}
		}
	})
}

func TestLateRowNotesTheNewest(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		base := w.ids.Next()
		put := func(n event.ID, kind pb.NotificationType) row {
			r := row{id: base + n, kind: kind, actor: "actor" + strconv.Itoa(int(n))}
			if kind == mention {
				r.post = base - 1
			}
			if _, _, err := w.service.store.insert(t.Context(), r, []string{"bob"}); err != nil {
				t.Fatal(err)
			}
			return r
		}
		third := put(3, mention)
		first := put(1, mention)
		fifth := put(5, pb.NotificationType_NOTIFICATION_TYPE_FOLLOW)
		fourth := put(4, pb.NotificationType_NOTIFICATION_TYPE_FOLLOW)
		first.newest, fourth.newest = base+3, base+5
		if _, _, err := w.service.store.mark(t.Context(), "bob", marks{upTo: base + 1, read: true}, 0); err != nil {
			t.Fatal(err)
		}
		first.read, first.seen = true, true
		v, err := w.service.store.view(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		got := make([]row, 0, len(v.entries))
		for _, e := range v.entries {
			got = append(got, e.row)
		}
		if diff := cmp.Diff([]row{fifth, fourth, third, first}, got, cmp.AllowUnexported(row{})); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		// A follow that is there as a late row is still the same follow.
		if _, err := w.service.store.follow(t.Context(), fourth.actor, "bob", base+8, followEnds, false); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if told, err := w.service.store.follow(t.Context(), fourth.actor, "bob", base+9, followNone, true); told != 0 || err != nil {
				t.Errorf("follow again = %d, %v, want 0", told, err)
			}
		}
	})
}

func TestMarks(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		ids := make([]event.ID, 0, 7)
		for n := range 5 {
			ids = append(ids, w.happen(posted("ann", n+1, "bob")))
		}
		late := w.event(posted("ann", 6, "bob"))
		for n := range 2 {
			ids = append(ids, w.happen(posted("ann", n+7, "bob")))
		}
		mark := func(id event.ID, upTo bool) int {
			t.Helper()
			req := &pb.MarkReadRequest{UserId: "bob", What: &pb.MarkReadRequest_NotificationId{NotificationId: id.String()}}
			if upTo {
				req.What = &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: id.String()}
			}
			resp, err := w.service.MarkRead(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.unread("bob"); got != int(resp.GetUnreadCount()) {
				t.Errorf("GetUnreadCount = %d, MarkRead said %d", got, resp.GetUnreadCount())
			}
			return int(resp.GetUnreadCount())
		}
		for _, step := range []struct {
			name string
			got  func() int
			want int
		}{
			{"all are unread", func() int { return w.unread("bob") }, 7},
			{"one is read", func() int { return mark(ids[3], false) }, 6},
			{"again", func() int { return mark(ids[3], false) }, 6},
			{"up to one", func() int { return mark(ids[2], true) }, 3},
			{"up to an older one", func() int { return mark(ids[0], true) }, 3},
			{"one that is not there", func() int { return mark(ids[0]+1, false) }, 3},
			{"a redelivered row stays read", func() int { w.happen(posted("cid", 9, "eve")); return w.unread("bob") }, 3},
			{"a delete of an unread one", func() int { w.happen(deleted("ann", 7)); return w.unread("bob") }, 2},
			{"a delete of a read one", func() int { w.happen(deleted("ann", 1)); return w.unread("bob") }, 2},
			{"up to the newest", func() int { return mark(ids[6], true) }, 0},
			{"a late one is unread, though newer ones are read", func() int { w.handle(late); return w.unread("bob") }, 1},
			{"up to between two", func() int { return mark(late.ID+1, true) }, 0},
		} {
			if got := step.got(); got != step.want {
				t.Errorf("%s: unread = %d, want %d", step.name, got, step.want)
			}
		}
		want := []string{"mention ann 0008 read", "mention ann 0006 read", "mention ann 0005 read", "mention ann 0004 read", "mention ann 0003 read", "mention ann 0002 read"}
		if diff := cmp.Diff(want, w.inbox("bob")); diff != "" {
			t.Errorf("inbox (-want +got):\n%s", diff)
		}
	})
}

func TestRetention(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{Retention: time.Hour})
		w.happen(posted("ann", 1, "bob"))
		w.clock.Advance(50 * time.Minute)
		w.happen(posted("ann", 2, "bob"))
		w.clock.Advance(20 * time.Minute)
		if diff := cmp.Diff([]string{"mention ann 0002"}, w.inbox("bob")); diff != "" {
			t.Errorf("inbox (-want +got):\n%s", diff)
		}
		if got := w.unread("bob"); got != 1 {
			t.Errorf("unread = %d, want 1", got)
		}
		ttl := client.PTTL(t.Context(), inboxKey("bob")).Val()
		if ttl <= 0 || ttl > time.Hour {
			t.Errorf("the inbox expires in %s, want within the hour of its retention", ttl)
		}
	})
}

// What is remembered of ended edges and deleted posts does not grow for ever.
func TestTombstonesAreForgotten(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{Retention: time.Hour, TombstoneTTL: time.Hour})
		ctx := t.Context()
		end := func(prefix string, n int) {
			for i := range n {
				if _, err := w.service.store.follow(ctx, fmt.Sprintf("%s%d", prefix, i), "ann", w.event(nil).ID, followEnds, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		end("old", 50)
		w.clock.Advance(3 * time.Hour)
		end("new", 100)
		left := client.HGetAll(ctx, followers.endedKey("ann")).Val()
		old := 0
		for user := range left {
			if user[:3] == "old" {
				old++
			}
		}
		// Each end looks at 4 of at most 150.
		if old > 25 || len(left)-old != 100 {
			t.Errorf("remembered %d old ends and %d new ones, want few and 100", old, len(left)-old)
		}

		remember := func(n int) {
			for range n {
				if err := w.service.store.deletePost(ctx, "ann", w.event(nil).ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		remember(deletedBatch - 100)
		w.clock.Advance(100 * time.Hour)
		remember(100)
		if got := client.SCard(ctx, deletedKey("ann")).Val(); got != 100 {
			t.Errorf("remembered %d deleted posts, want the 100 new ones", got)
		}
	})
}

// A Redis that lost its scripts, after a restart or a failover, learns them again.
func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		w.happen(posted("ann", 1, "bob"))
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		w.happen(posted("ann", 2, "bob"))
		if got := w.unread("bob"); got != 2 {
			t.Errorf("unread = %d, want 2", got)
		}
	})
}

// Nothing is published where nobody watches.
func TestPublishOnlyWhereWatched(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		ps := client.Subscribe(t.Context(), watchedKey("bob"), watchedKey("cid"))
		defer ps.Close()
		for range 2 {
			if _, err := ps.ReceiveTimeout(t.Context(), 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.service.store.watched(t.Context(), []string{"cid"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		w.happen(posted("ann", 1, "bob"))
		w.happen(posted("ann", 2, "bob", "cid"))
		msg, err := ps.ReceiveTimeout(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := msg.(*redis.Message); !ok || m.Channel != watchedKey("cid") {
			t.Errorf("first signal is %v, want the one for cid", msg)
		}
		// The event was handled twice, and only its first time is news.
		if msg, err := ps.ReceiveTimeout(t.Context(), 50*time.Millisecond); err == nil {
			t.Errorf("then came %v, want silence", msg)
		}
	})
}

// Rows of a newer version are left alone and do not spoil the others.
func TestUnknownRowsAreSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{})
	id := w.happen(posted("ann", 1, "bob"))
	newer := row{id: id + 1, kind: 77, actor: "ann"}
	for _, text := range []string{newer.encode(), "short", ""} {
		if err := w.deps.Redis.LPush(t.Context(), inboxKey("bob"), text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"mention ann 0001"}, w.inbox("bob")); diff != "" {
		t.Errorf("inbox (-want +got):\n%s", diff)
	}
}

// Every call ends at its deadline when Redis accepts and does not answer.
func TestRedisCallsHaveDeadlines(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, testenv.RedisClient(t, l.Addr().String()), Config{RedisTimeout: 50 * time.Millisecond})
	begin := time.Now()
	for name, call := range map[string]func(context.Context) error{
		"view": func(ctx context.Context) error { _, err := w.service.store.view(ctx, "ann"); return err },
		"mark": func(ctx context.Context) error {
			_, _, err := w.service.store.mark(ctx, "ann", marks{upTo: 1, read: true}, 0)
			return err
		},
		"audience": func(ctx context.Context) error { _, err := w.service.store.audience(ctx, "ann", 1, 1); return err },
		"insert": func(ctx context.Context) error {
			_, _, err := w.service.store.insert(ctx, row{id: 1, kind: mention, actor: "a"}, []string{"ann"})
			return err
		},
		"block":  func(ctx context.Context) error { return w.service.store.block(ctx, "ann", "bob", w.ids.Next(), true) },
		"delete": func(ctx context.Context) error { return w.service.store.deletePost(ctx, "ann", 1) },
	} {
		if err := call(context.Background()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s = %v, want an outage", name, err)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("six calls took %s with a deadline of 50ms each", took)
	}
}

// Marks out of the log hold for rows that come after them, as in a rebuild.
func TestRestoredMarksHoldForLaterRows(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		base := w.ids.Next()
		version := w.ids.Next()
		if err := w.service.store.restore(t.Context(), "bob", base+2, base+4, []event.ID{base + 5}, version, false); err != nil {
			t.Fatal(err)
		}
		// An older fact is no news.
		if err := w.service.store.restore(t.Context(), "bob", base+6, base+6, nil, version-1, false); err != nil {
			t.Fatal(err)
		}
		for _, n := range []event.ID{3, 1, 6, 2, 5, 4} {
			if _, _, err := w.service.store.insert(t.Context(), row{id: base + n, kind: mention, actor: "ann", post: base}, []string{"bob"}); err != nil {
				t.Fatal(err)
			}
		}
		v, err := w.service.store.view(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, e := range v.entries {
			got = append(got, fmt.Sprintf("%d read %t seen %t", e.id-base, e.read, e.seen))
		}
		want := []string{
			"6 read false seen false", "5 read true seen true", "4 read false seen true", "3 read false seen true",
			"2 read true seen true", "1 read true seen true",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
	})
}
