package notify

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestPageSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{})
	for n := range 130 {
		w.handle(w.event(posted("ann", n, "bob")))
	}
	for _, tt := range []struct{ asked, want int32 }{{0, 20}, {1, 1}, {100, 100}, {101, 100}, {1 << 30, 100}} {
		resp, err := w.service.ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "bob", PageSize: tt.asked})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(resp.GetNotifications()); got != int(tt.want) || resp.GetNextPageToken() == "" || resp.GetUnreadCount() != 130 {
			t.Errorf("page_size %d: %d rows, token %q, %d unread; want %d rows, a token, 130", tt.asked, got, resp.GetNextPageToken(), resp.GetUnreadCount(), tt.want)
		}
	}
}

// A page token stays right while rows come, go and are read.
func TestPagingWhileTheInboxChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{})
	for n := range 9 {
		w.happen(posted("ann", n, "bob"))
	}
	page := func(token string) (rows []string, next string) {
		resp, err := w.service.ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "bob", PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range resp.GetNotifications() {
			rows = append(rows, line(n))
		}
		return rows, resp.GetNextPageToken()
	}
	first, token := page("")
	w.happen(posted("ann", 9, "bob"))
	w.happen(deleted("ann", 6)) // the row that the token names
	w.happen(deleted("ann", 4))
	second, token := page(token)
	last, end := page(token)
	want := [][]string{
		{"mention ann 0008", "mention ann 0007", "mention ann 0006"},
		{"mention ann 0005", "mention ann 0003", "mention ann 0002"},
		{"mention ann 0001", "mention ann 0000"},
	}
	if diff := cmp.Diff(want, [][]string{first, second, last}); diff != "" || end != "" {
		t.Errorf("pages end with token %q (-want +got):\n%s", end, diff)
	}
}

func TestPageTokensAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, miniRedis(t), Config{})
	good := pageToken("bob", 1_500_000_000_000_000_000)
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(i int) string {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	tokens := map[string]string{
		"another user's": pageToken("ann", 1_500_000_000_000_000_000),
		"no base64":      "!!!",
		"an id":          "1500000000000000000",
		"cut":            good[:len(good)-1],
		"longer":         good + "AAAA",
		"padded":         good + "=",
		"newline":        good + "\n",
	}
	for i := range raw {
		tokens[fmt.Sprintf("edited at byte %d", i)] = edited(i)
	}
	for name, token := range tokens {
		_, err := w.service.ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "bob", PageToken: token})
		if f := fault.Of(err); f == nil || f.Kind != fault.InvalidArgument || f.Field != "page_token" {
			t.Errorf("%s: ListNotifications(%q) = %v, want page_token to be invalid", name, token, err)
		}
	}
	if _, err := w.service.ListNotifications(t.Context(), &pb.ListNotificationsRequest{UserId: "bob", PageToken: good}); err != nil {
		t.Errorf("ListNotifications(a good token) = %v", err)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	s := serve(t, miniRedis(t), Config{})
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		call func() error
	}{
		{"no user", func() error { _, err := s.client.GetUnreadCount(ctx, &pb.GetUnreadCountRequest{}); return err }},
		{"a user id that would leave its hash tag", func() error {
			_, err := s.client.ListNotifications(ctx, &pb.ListNotificationsRequest{UserId: "a}b"})
			return err
		}},
		{"a mark of nothing", func() error { _, err := s.client.MarkRead(ctx, &pb.MarkReadRequest{UserId: "bob"}); return err }},
		{"a mark of no id", func() error {
			_, err := s.client.MarkRead(ctx, &pb.MarkReadRequest{UserId: "bob", What: &pb.MarkReadRequest_NotificationId{NotificationId: "7"}})
			return err
		}},
		{"an id that is too large", func() error {
			_, err := s.client.MarkRead(ctx, &pb.MarkReadRequest{UserId: "bob", What: &pb.MarkReadRequest_UpToNotificationId{UpToNotificationId: "9999999999999999999"}})
			return err
		}},
		{"a watch after no id", func() error {
			stream, err := s.client.WatchNotifications(ctx, &pb.WatchNotificationsRequest{UserId: "bob", AfterNotificationId: "9999999999999999999"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
	} {
		if err := tt.call(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want %s", tt.name, err, codes.InvalidArgument)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("Validate of the zero value = %v", err)
	}
	if err := (Config{}).withDefaults().Validate(); err != nil {
		t.Errorf("Validate of the defaults = %v", err)
	}
	var flags Config
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff((Config{}).withDefaults(), flags); diff != "" {
		t.Errorf("the command line has other defaults (-withDefaults +flags):\n%s", diff)
	}
	bad := Config{InboxRows: -1, Retention: -1, PipelineSize: -1}
	err = bad.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("Validate(%+v) = %v, want three faults", bad, err)
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("New without Log and Redis succeeded")
	}
}
