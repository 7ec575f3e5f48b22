package notify

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// groups returns what a user sees, newest first: "follow cid bob ann (3 of 3, 2 unread)".
func (w *world) groups(user string, size int32) []string {
	w.t.Helper()
	lines, token := []string{}, ""
	for {
		resp, err := w.service.ListGroupedNotifications(context.Background(), &pb.ListGroupedNotificationsRequest{UserId: user, PageSize: size, PageToken: token})
		if err != nil {
			w.t.Fatalf("ListGroupedNotifications(%s) = %v", user, err)
		}
		for _, g := range resp.GetGroups() {
			lines = append(lines, fmt.Sprintf("%s %s (%d people, %d rows, %d unread)", kindLabel(g.GetType()),
				strings.Join(g.GetSampleActorIds(), " "), g.GetActorCount(), g.GetNotificationCount(), g.GetUnreadCount()))
		}
		if token = resp.GetNextPageToken(); token == "" {
			return lines
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		// A day has to hold all of it.
		w.clock.Advance(time.Now().UTC().Truncate(24 * time.Hour).Add(time.Hour).Sub(w.clock.Now()))
		w.happen(followed("dan", "ann", levelEvery))
		for _, follower := range []string{"ann", "bob", "cid"} {
			w.happen(followed(follower, "dan", levelEvery))
		}
		w.happen(posted("ann", 1))
		w.happen(posted("ann", 2, "dan"))
		third := w.happen(posted("ann", 3))
		w.happen(posted("ann", 4))
		w.happen(deleted("ann", 1))
		want := []string{
			"post ann (1 people, 2 rows, 2 unread)",
			"mention ann (1 people, 1 rows, 1 unread)",
			"follow cid bob ann (3 people, 3 rows, 3 unread)",
		}
		for _, size := range []int32{1, 2, 20} {
			if diff := cmp.Diff(want, w.groups("dan", size)); diff != "" {
				t.Errorf("groups in pages of %d (-want +got):\n%s", size, diff)
			}
		}
		// What joined the group since it was shown stays unread.
		if _, err := w.service.MarkRead(t.Context(), &pb.MarkReadRequest{UserId: "dan", What: &pb.MarkReadRequest_GroupNewestId{GroupNewestId: third.String()}}); err != nil {
			t.Fatal(err)
		}
		want[0] = "post ann (1 people, 2 rows, 1 unread)"
		if diff := cmp.Diff(want, w.groups("dan", 20)); diff != "" {
			t.Errorf("groups after a mark (-want +got):\n%s", diff)
		}
	})
}

// Seen is a mark of its own: it ends with the opening of the list, and reading
// implies it.
func TestUnseen(t *testing.T) {
	t.Parallel()
	testenv.OnEveryRedis(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, Config{})
		counts := func() [2]int32 {
			t.Helper()
			resp, err := w.service.GetUnreadCount(t.Context(), &pb.GetUnreadCountRequest{UserId: "bob"})
			if err != nil {
				t.Fatal(err)
			}
			return [2]int32{resp.GetUnreadCount(), resp.GetUnseenCount()}
		}
		see := func(upTo string) {
			t.Helper()
			if _, err := w.service.MarkNotificationsSeen(t.Context(), &pb.MarkNotificationsSeenRequest{UserId: "bob", UpToNotificationId: upTo}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(name string, unread, unseen int32) {
			t.Helper()
			if got := counts(); got != [2]int32{unread, unseen} {
				t.Errorf("%s: %d unread, %d unseen, want %d, %d", name, got[0], got[1], unread, unseen)
			}
		}
		first := w.happen(posted("ann", 1, "bob"))
		late := w.event(posted("ann", 2, "bob"))
		w.happen(posted("ann", 3, "bob"))
		expect("new", 2, 2)
		see(first.String())
		expect("seen up to one", 2, 1)
		see("")
		expect("the list was opened", 2, 0)
		w.handle(late)
		expect("a row came late", 3, 1)
		w.happen(posted("ann", 4, "bob"))
		expect("and a new one", 4, 2)
		if _, err := w.service.MarkRead(t.Context(), &pb.MarkReadRequest{UserId: "bob", What: &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: late.ID.String()}}); err != nil {
			t.Fatal(err)
		}
		expect("what is read is seen", 2, 1)
	})
}
