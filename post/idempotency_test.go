package post_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	otherCaption := func(r *pb.PostPhotoRequest) { r.Caption = "another" }
	for _, tt := range []struct {
		name string
		// between happens after the first command; it returns the node for the second.
		between func(t *testing.T, l *logOf, n *node, first *pb.Photo) *node
		second  *pb.PostPhotoRequest
		// invalid: the second is refused. Otherwise facts tells whether it got the
		// first answer (1) or posted again (2).
		invalid bool
		facts   int
	}{
		{"repeat", nil, keyed("k"), false, 1},
		{"repeat on a new instance on the same log", func(t *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			n.stop()
			return l.start(t)
		}, keyed("k"), false, 1},
		{"repeat on another node", func(t *testing.T, l *logOf, _ *node, _ *pb.Photo) *node { return l.start(t) }, keyed("k"), false, 1},
		{"repeat after the deletion", func(t *testing.T, _ *logOf, n *node, first *pb.Photo) *node {
			if _, err := n.DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "ann", PostId: first.GetPostId()}); err != nil {
				t.Fatal(err)
			}
			return n
		}, keyed("k"), false, 1},
		{"repeat just within the day", func(_ *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			l.clock.Advance(24*time.Hour - time.Millisecond)
			return n
		}, keyed("k"), false, 1},
		{"repeat after a day", func(_ *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			l.clock.Advance(24 * time.Hour)
			return n
		}, keyed("k"), false, 2},
		{"repeat after a day on a new instance", func(t *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			l.clock.Advance(24 * time.Hour)
			n.stop()
			return l.start(t)
		}, keyed("k"), false, 2},
		{"another caption", nil, keyed("k", otherCaption), true, 1},
		{"another order of mentions", nil, keyed("k", func(r *pb.PostPhotoRequest) { slices.Reverse(r.GetMentions()) }), true, 1},
		{"another picture", nil, keyed("k", func(r *pb.PostPhotoRequest) { r.Media[0].Width++ }), true, 1},
		{"another caption on a new instance", func(t *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			n.stop()
			return l.start(t)
		}, keyed("k", otherCaption), true, 1},
		{"another caption after a day", func(_ *testing.T, l *logOf, n *node, _ *pb.Photo) *node {
			l.clock.Advance(24 * time.Hour)
			return n
		}, keyed("k", otherCaption), false, 2},
		{"another key", nil, keyed("l"), false, 2},
		{"the same key of another user", nil, keyed("k", func(r *pb.PostPhotoRequest) { r.UserId = "bob" }), false, 2},
		{"user and key that read the same in a row", nil, keyed("nk", func(r *pb.PostPhotoRequest) { r.UserId = "an" }), false, 2},
		{"no key", nil, command(), false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLog(t)
			n := l.start(t)
			first := mustPost(t, n, keyed("k"))
			l.clock.Advance(time.Second)
			if tt.between != nil {
				l.clock.Advance(-time.Second)
				n = tt.between(t, l, n, first)
			}
			resp, err := n.PostPhoto(t.Context(), tt.second)
			switch {
			case tt.invalid:
				if !namesField(err, "idempotency_key") {
					t.Errorf("second command: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			case tt.facts == 1:
				if diff := cmp.Diff(first, resp.GetPhoto(), protocmp.Transform()); diff != "" {
					t.Errorf("second answer (-first +second):\n%s", diff)
				}
			case resp.GetPhoto().GetPostId() == first.GetPostId():
				t.Error("the second command got the first answer")
			}
			if got := len(l.posted(t)); got != tt.facts {
				t.Errorf("the log has %d photos, want %d", got, tt.facts)
			}
		})
	}
}

func TestSimultaneousCommandsOfOneKeyPostOnce(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	n := l.start(t)
	const callers = 20
	answers := make([]*pb.Photo, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			resp, err := n.PostPhoto(t.Context(), keyed("k"))
			if err != nil {
				t.Error(err)
			}
			answers[i] = resp.GetPhoto()
		})
	}
	wg.Wait()
	photos := l.posted(t)
	if len(photos) != 1 {
		t.Fatalf("the log has %d photos, want 1", len(photos))
	}
	for i, got := range answers {
		if diff := cmp.Diff(photos[0], got, protocmp.Transform()); diff != "" {
			t.Errorf("answer %d (-log +got):\n%s", i, diff)
		}
	}
}

var errLost = fault.Outage("publish to activity", errors.New("the answer got lost"))

// A publish whose outcome is unknown, then the client's retry.
func TestRetryAfterAPublishOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// lands says when the first publish reaches the log: "at once" (only its
		// answer was lost), "late" (after the retry), or "never".
		lands string
		// between is the time from the first try to the retry.
		between time.Duration
		second  *pb.PostPhotoRequest
		invalid bool
		// posts and events are how many distinct ones of each the log has at the end.
		posts, events, records int
	}{
		{"landed", "at once", time.Second, keyed("k"), false, 1, 1, 1},
		{"landed, long ago", "at once", time.Hour, keyed("k"), false, 1, 1, 1},
		{"lost", "never", time.Second, keyed("k"), false, 1, 1, 1},
		{"lost, long ago", "never", time.Hour, keyed("k"), false, 1, 1, 1},
		{"lands after the retry: one event twice", "late", time.Second, keyed("k"), false, 1, 1, 2},
		{"the retry shows another photo", "late", time.Second, keyed("k", func(r *pb.PostPhotoRequest) { r.Caption = "another" }), true, 1, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLog(t)
			var late func() error
			l.fault = func(_ context.Context, publish func() error) error {
				if late != nil {
					return publish()
				}
				late = publish
				if tt.lands == "at once" {
					return errors.Join(publish(), errLost)
				}
				return errLost
			}
			n := l.start(t)
			start := l.clock.Now()
			_, err := n.PostPhoto(t.Context(), keyed("k"))
			if status.Code(err) != codes.Unavailable {
				t.Fatalf("first try: %v", err)
			}
			l.clock.Advance(tt.between)
			resp, err := n.PostPhoto(t.Context(), tt.second)
			switch {
			case tt.invalid && !namesField(err, "idempotency_key"):
				t.Errorf("retry: %v", err)
			case !tt.invalid && err != nil:
				t.Fatal(err)
			}
			if tt.lands == "late" {
				if err := late(); err != nil {
					t.Fatal(err)
				}
			}
			posts, events := map[string]bool{}, map[event.ID]bool{}
			all := l.events(t)
			for _, e := range all {
				events[e.ID] = true
				posts[e.Data.(*pb.PhotoPosted).GetPhoto().GetPostId()] = true
			}
			if len(posts) != tt.posts || len(events) != tt.events || len(all) != tt.records {
				t.Errorf("the log has %d posts in %d events in %d records, want %d, %d, %d",
					len(posts), len(events), len(all), tt.posts, tt.events, tt.records)
			}
			if !tt.invalid && !posts[resp.GetPhoto().GetPostId()] {
				t.Errorf("the answer %v is not in the log", resp)
			}
			// Within the settle time the retry keeps the first try's place.
			if got := resp.GetPhoto().GetCreateTime(); tt.lands == "never" {
				want := start
				if tt.between > 2*time.Minute {
					want = start.Add(tt.between)
				}
				if !got.AsTime().Equal(want) {
					t.Errorf("create_time = %s, want %s", got.AsTime(), want)
				}
			}
		})
	}
}

func TestKeyedCommandsWaitForTheLogAndOthersDoNot(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.cfg.LookupTimeout = 50 * time.Millisecond
	l.deaf = true
	n := l.start(t)
	_, err := n.PostPhoto(t.Context(), keyed("k"))
	if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != "the idempotency key could not be looked up" {
		t.Errorf("keyed command: %v", st)
	}
	mustPost(t, n, command())
	if got := len(l.posted(t)); got != 1 {
		t.Errorf("the log has %d photos, want 1", got)
	}
}
