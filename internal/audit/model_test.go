package audit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

var firstID = event.FirstID(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))

// id returns the id of test post n.
func id(n int) event.ID { return firstID + event.ID(n)<<22 }

func photo(author string, n int) *pb.Photo {
	return &pb.Photo{
		PostId: id(n).String(), AuthorId: author, Caption: fmt.Sprintf("post %d", n),
		Media: []*pb.Media{{Url: "https://photos.example/1.jpg", Width: 1, Height: 1}}, CreateTime: timestamppb.New(id(n).Time()),
	}
}

func posted(author string, n int) proto.Message { return &pb.PhotoPosted{Photo: photo(author, n)} }

func deleted(author string, n int) proto.Message {
	return &pb.PhotoDeleted{AuthorId: author, PostId: id(n).String()}
}

func follow(follower, followee string) proto.Message {
	return &pb.UserFollowed{FollowerId: follower, FolloweeId: followee}
}

func unfollow(follower, followee string) proto.Message {
	return &pb.UserUnfollowed{FollowerId: follower, FolloweeId: followee}
}

func block(actor, target string) proto.Message {
	return &pb.UserBlocked{ActorId: actor, TargetId: target}
}

func unblock(actor, target string) proto.Message {
	return &pb.UserUnblocked{ActorId: actor, TargetId: target}
}

func mute(actor, target string) proto.Message {
	return &pb.UserMuted{ActorId: actor, TargetId: target}
}

func unmute(actor, target string) proto.Message {
	return &pb.UserUnmuted{ActorId: actor, TargetId: target}
}

func TestModel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		events []proto.Message
		want   []int // ann's home feed, as numbers of posts
		why    map[int]string
	}{
		{"nobody", nil, nil, map[int]string{1: "an author whom the log does not know"}},
		{"own posts, newest first", []proto.Message{posted("ann", 1), posted("ann", 2)}, []int{2, 1}, nil},
		{
			"followees' posts, not those of strangers",
			[]proto.Message{posted("bob", 1), follow("ann", "bob"), posted("cid", 2), posted("bob", 3)},
			[]int{3, 1},
			map[int]string{2: "an author whom they do not follow", 3: "a post by an author whom they follow", 9: "an author whom the log does not know"},
		},
		{"a follow is no follow back", []proto.Message{follow("bob", "ann"), posted("bob", 1)}, nil, nil},
		{"following twice is following once", []proto.Message{follow("ann", "bob"), follow("ann", "bob"), posted("bob", 1), unfollow("ann", "bob")}, nil, nil},
		{"unfollow without follow, and follow anew", []proto.Message{unfollow("ann", "bob"), posted("bob", 1), follow("ann", "bob"), unfollow("ann", "bob"), follow("ann", "bob")}, []int{1}, nil},
		{"following oneself changes nothing", []proto.Message{follow("ann", "ann"), posted("ann", 1)}, []int{1}, nil},
		{
			"deleted by its author",
			[]proto.Message{follow("ann", "bob"), posted("bob", 1), posted("bob", 2), deleted("bob", 1)},
			[]int{2},
			map[int]string{1: "deleted by its author"},
		},
		{"another user's delete does nothing", []proto.Message{follow("ann", "bob"), posted("bob", 1), deleted("eve", 1)}, []int{1}, nil},
		{"a post that comes again after its delete stays deleted", []proto.Message{posted("ann", 1), deleted("ann", 1), posted("ann", 1)}, nil, nil},
		{"a delete that comes first counts", []proto.Message{deleted("ann", 1), posted("ann", 1)}, nil, nil},
		{"a stranger's delete that comes first does not", []proto.Message{deleted("eve", 1), posted("ann", 1)}, []int{1}, nil},
		{"a repeated post is there once", []proto.Message{posted("ann", 1), posted("ann", 1)}, []int{1}, nil},
		{"a post that comes late is in its place", []proto.Message{posted("ann", 1), posted("ann", 3), posted("ann", 2)}, []int{3, 2, 1}, nil},
		{
			"blocked by the reader",
			[]proto.Message{follow("ann", "bob"), posted("bob", 1), block("ann", "bob"), posted("ann", 2)},
			[]int{2},
			map[int]string{1: "an author whom they blocked", 2: "their own post"},
		},
		{
			"blocked by the author",
			[]proto.Message{follow("ann", "bob"), posted("bob", 1), block("bob", "ann")},
			nil,
			map[int]string{1: "an author who blocked them"},
		},
		{"unblocked again, the follow lives on", []proto.Message{follow("ann", "bob"), posted("bob", 1), block("ann", "bob"), unblock("ann", "bob")}, []int{1}, nil},
		{"each side's own block", []proto.Message{follow("ann", "bob"), posted("bob", 1), block("ann", "bob"), block("bob", "ann"), unblock("ann", "bob")}, nil, nil},
		{
			"muted by the reader",
			[]proto.Message{follow("ann", "bob"), posted("bob", 1), mute("ann", "bob")},
			nil,
			map[int]string{1: "an author whom they muted"},
		},
		{"muted by the author changes nothing", []proto.Message{follow("ann", "bob"), posted("bob", 1), mute("bob", "ann")}, []int{1}, nil},
		{"unmuted again", []proto.Message{follow("ann", "bob"), posted("bob", 1), mute("ann", "bob"), unmute("ann", "bob")}, []int{1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewModel()
			authors := map[int]string{9: "nobody"}
			for i, data := range tt.events {
				if p, ok := data.(*pb.PhotoPosted); ok {
					for n := range 9 {
						if p.GetPhoto().GetPostId() == id(n).String() {
							authors[n] = p.GetPhoto().GetAuthorId()
						}
					}
				}
				if err := m.Apply(event.Event{ID: event.ID(i), Data: data}); err != nil {
					t.Fatal(err)
				}
			}
			var got []int
			for _, p := range m.Home("ann") {
				n := int((p.ID - firstID) >> 22)
				got = append(got, n)
				if p.Author != authors[n] || p.Digest != DigestOf(photo(p.Author, n)) {
					t.Errorf("post %d is %+v, want by %s", n, p, authors[n])
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Home(ann) (-want +got):\n%s", diff)
			}
			for n, why := range tt.why {
				if got := m.Explain("ann", authors[n], id(n)); got != why {
					t.Errorf("Explain(ann, post %d) = %q, want %q", n, got, why)
				}
			}
		})
	}
}

func TestModelRefusesImpossibleIDs(t *testing.T) {
	t.Parallel()
	m := NewModel()
	beyond := "9999999999999999999" // 19 digits, but no int64
	for _, data := range []proto.Message{
		&pb.PhotoPosted{Photo: &pb.Photo{AuthorId: "ann", PostId: beyond}},
		&pb.PhotoDeleted{AuthorId: "ann", PostId: beyond},
	} {
		if err := m.Apply(event.Event{Data: data}); err == nil {
			t.Errorf("Apply(%v) = nil, want an error", data)
		}
	}
	if got := m.Home("ann"); got != nil {
		t.Errorf("Home(ann) = %v, want none", got)
	}
}

// Partitions have no order among each other: the model is the same however they
// mix, also when each event comes twice.
func TestModelNeedsNoOrderAcrossKeys(t *testing.T) {
	t.Parallel()
	users := []string{"ann", "bob", "cid"}
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.SampledFrom(users)
		byKey := make(map[string][]proto.Message)
		inOrder := NewModel()
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			a, b, n := user.Draw(t, "a"), user.Draw(t, "b"), rapid.IntRange(0, 5).Draw(t, "post")
			// A post has one author.
			data := rapid.SampledFrom([]proto.Message{
				posted(users[n%3], n), deleted(users[n%3], n), deleted(a, n), follow(a, b), unfollow(a, b), block(a, b), unblock(a, b), mute(a, b), unmute(a, b),
			}).Draw(t, "event")
			key, err := event.Key(data)
			if err != nil {
				t.Fatal(err)
			}
			byKey[key] = append(byKey[key], data)
			if err := inOrder.Apply(event.Event{Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		mixed := NewModel()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "mix"), 0))
		for len(byKey) > 0 {
			key := users[rng.IntN(len(users))]
			if len(byKey[key]) == 0 {
				delete(byKey, key)
				continue
			}
			for range 1 + rng.IntN(2) {
				if err := mixed.Apply(event.Event{Data: byKey[key][0]}); err != nil {
					t.Fatal(err)
				}
			}
			byKey[key] = byKey[key][1:]
		}
		for _, u := range users {
			if diff := cmp.Diff(inOrder.Home(u), mixed.Home(u)); diff != "" {
				t.Fatalf("Home(%s) (-in order +mixed):\n%s", u, diff)
			}
		}
	})
}

// 100,000 users with 900,000 follows and 100,000 posts.
func BenchmarkModel(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	name := func() string { return fmt.Sprint(rng.IntN(100_000)) }
	for b.Loop() {
		m := NewModel()
		for range 900_000 {
			_ = m.Apply(event.Event{Data: follow(name(), name())})
		}
		for n := range 100_000 {
			_ = m.Apply(event.Event{Data: posted(name(), n)})
		}
	}
}
