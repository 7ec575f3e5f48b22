package feed

import (
	"slices"
	"strings"
	"testing"
	"time"

	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// TestForgedPageTokensAreRefused hands tokens of other lists, and changed ones, to
// each method that takes one.
func TestForgedPageTokensAreRefused(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, smallConfig())
	p.apply(t, followed("bob", "ann"), followed("cat", "ann"))
	for range 3 {
		p.post(t, "ann")
	}
	home := func(user, token string) (string, error) {
		r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: user, PageSize: 1, PageToken: token})
		return r.GetNextPageToken(), err
	}
	author := func(user, token string) (string, error) {
		r, err := p.api.GetAuthorFeed(t.Context(), &pb.GetAuthorFeedRequest{UserId: user, AuthorId: "ann", PageSize: 1, PageToken: token})
		return r.GetNextPageToken(), err
	}
	users := func(user, token string) (string, error) {
		_, next, err := p.Followers(t.Context(), user, 1, token)
		return next, err
	}
	reads := map[string]func(user, token string) (string, error){"home": home, "author": author, "followers": users}
	first := func(read func(user, token string) (string, error), user string) string {
		token, err := read(user, "")
		if err != nil || token == "" {
			t.Fatalf("first page of %s: token %q, %v", user, token, err)
		}
		return token
	}
	good := first(home, "bob")
	changed := []byte(good)
	changed[3] ^= 1
	for _, tt := range []struct{ name, read, token string }{
		{"home, with bytes changed", "home", string(changed)},
		{"home, cut", "home", good[:len(good)-4]},
		{"home, no base64", "home", "0 or 1=1"},
		{"home, of another user", "home", first(home, "cat")},
		{"home, of an author's feed", "home", first(author, "bob")},
		{"home, of followers", "home", first(users, "ann")},
		{"author, of a home feed", "author", good},
		{"author, of another reader", "author", first(author, "cat")},
		{"followers, of a home feed", "followers", good},
	} {
		_, err := reads[tt.read]("bob", tt.token)
		if f := fault.Of(err); f == nil || f.Kind != fault.InvalidArgument || f.Field != "page_token" {
			t.Errorf("%s: %v, want an invalid page_token", tt.name, err)
		} else if strings.Contains(f.Message, f.Field) {
			t.Errorf("%s: %q names the field a second time", tt.name, f.Message)
		}
	}
	if _, err := home("bob", good); err != nil {
		t.Errorf("the token itself: %v", err)
	}
}

// TestPageTokensOutliveWhatHappensBetweenPages reads one page, lets something
// happen, and reads the rest.
func TestPageTokensOutliveWhatHappensBetweenPages(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name  string
			large bool // ann is large at the first page
			then  func(t *testing.T, p *process, cursor string)
		}{
			{"nothing", false, func(*testing.T, *process, string) {}},
			{"the post of the token is deleted", false, func(t *testing.T, p *process, cursor string) {
				p.apply(t, deleted("ann", cursor), deleted("eve", cursor))
			}},
			{"the list is trimmed past it", false, func(t *testing.T, p *process, _ string) {
				for range 25 {
					w.clock.Advance(time.Minute)
					p.post(t, "eve")
				}
			}},
			{"the list is lost and built anew", false, func(t *testing.T, p *process, _ string) {
				w.raw.Del(t.Context(), feedKey("bob"))
				p.wantHomes(t)
			}},
			{"the process restarts", false, func(t *testing.T, p *process, _ string) { p.restart(t, hybridConfig()) }},
			{"ann becomes large", false, func(t *testing.T, p *process, _ string) {
				p.apply(t, followed("cat", "ann"), followed("dan", "ann"))
				p.post(t, "ann")
			}},
			{"ann is pushed again", true, func(t *testing.T, p *process, _ string) {
				p.apply(t, unfollowed("cat", "ann"), unfollowed("dan", "ann"))
				p.post(t, "ann")
			}},
		} {
			t.Log(tt.name)
			if err := w.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := w.process(t, hybridConfig())
			p.apply(t, followed("bob", "ann"), followed("bob", "eve"))
			if tt.large {
				p.apply(t, followed("cat", "ann"), followed("dan", "ann"))
			}
			p.wantHomes(t)
			var want []string
			for i := range 14 {
				want = append(want, p.post(t, []string{"ann", "eve"}[i%2]))
				w.clock.Advance(time.Minute)
			}
			want = newestFirst(want...)
			page := func(token string) ([]*pb.Photo, string, bool, error) {
				r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 4, PageToken: token})
				return r.GetPhotos(), r.GetNextPageToken(), r.GetHasMore(), err
			}
			_, token, more, err := page("")
			if err != nil || !more {
				t.Fatalf("%s: first page: more %v, %v", tt.name, more, err)
			}
			tt.then(t, p, want[3])
			if got, err := scroll(4, token, true, page); err != nil || !slices.Equal(got, want[4:]) {
				t.Errorf("%s: after the first page %v, %v, want %v", tt.name, got, err, want[4:])
			}
		}
	})
}

// TestABlockEndsAnAuthorsFeed reads on with a token from before the block.
func TestABlockEndsAnAuthorsFeed(t *testing.T) {
	t.Parallel()
	for _, block := range []struct{ name, actor, target string }{
		{"the author blocks", "ann", "bob"},
		{"the reader blocks", "bob", "ann"},
	} {
		t.Run(block.name, func(t *testing.T) {
			t.Parallel()
			w := newMiniWorld(t)
			p := w.process(t, smallConfig())
			for range 4 {
				p.post(t, "ann")
			}
			read := func(user, token string) *pb.GetAuthorFeedResponse {
				r, err := p.api.GetAuthorFeed(t.Context(), &pb.GetAuthorFeedRequest{UserId: user, AuthorId: "ann", PageSize: 2, PageToken: token})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			token := read("bob", "").GetNextPageToken()
			p.apply(t, &pb.UserBlocked{ActorId: block.actor, TargetId: block.target})
			for _, place := range []string{"", token} {
				if r := read("bob", place); len(r.GetPhotos()) != 0 || r.GetHasMore() || r.GetNextPageToken() != "" {
					t.Errorf("page at %q: %d posts, more %v; want none", place, len(r.GetPhotos()), r.GetHasMore())
				}
			}
			if r := read("cat", ""); len(r.GetPhotos()) != 2 || !r.GetHasMore() {
				t.Errorf("page of cat: %d posts, more %v; want 2 and more", len(r.GetPhotos()), r.GetHasMore())
			}
			p.apply(t, &pb.UserUnblocked{ActorId: block.actor, TargetId: block.target})
			if r := read("bob", token); len(r.GetPhotos()) != 2 || r.GetHasMore() {
				t.Errorf("after the unblock: %d posts, more %v; want the last 2", len(r.GetPhotos()), r.GetHasMore())
			}
		})
	}
}
