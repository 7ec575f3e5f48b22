package feed

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestPageTokens(t *testing.T) {
	t.Parallel()
	const id event.ID = 1573987284942897152
	home := tokenList{kind: "home", user: "bob"}
	token := home.cursorToken(id)
	flipped := []byte(token)
	flipped[4]++
	for _, tt := range []struct {
		name  string
		list  tokenList
		token string
		want  event.ID
		ok    bool
	}{
		{"its own", home, token, id, true},
		{"none", home, "", noCursor, true},
		{"another user's", tokenList{kind: "home", user: "ann"}, token, 0, false},
		{"another kind's", tokenList{kind: "author", user: "bob"}, token, 0, false},
		{"another author's", tokenList{kind: "author", user: "bob", of: "cat"}, tokenList{kind: "author", user: "bob", of: "ann"}.cursorToken(id), 0, false},
		{"changed", home, string(flipped), 0, false},
		{"cut", home, token[:10], 0, false},
		{"no base64", home, "!!!", 0, false},
		{"of a list of users", home, home.seal([]byte("short")), 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.list.cursor(tt.token)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("cursor(%q) = %v, %v, want %v, ok %v", tt.token, got, err, tt.want, tt.ok)
			}
			if f := fault.Of(err); err != nil && (f == nil || f.Kind != fault.InvalidArgument || f.Field != "page_token") {
				t.Errorf("cursor(%q): %v is not a fault of page_token", tt.token, err)
			}
		})
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add("")
	f.Add(tokenList{kind: "home", user: "bob"}.cursorToken(1573987284942897152))
	f.Fuzz(func(t *testing.T, token string) {
		list := tokenList{kind: "home", user: "bob"}
		if id, err := list.cursor(token); err == nil && token != "" && list.cursorToken(id) != token {
			// Base64 has spare bits at its end; nothing else may differ.
			if strings.TrimRight(token, "\r\n") == token && len(token) == len(list.cursorToken(id)) {
				return
			}
			t.Errorf("cursor(%q) = %v, whose token is %q", token, id, list.cursorToken(id))
		}
	})
}

func TestPageSizes(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, Config{})
		for range 101 {
			p.post(t, "ann")
		}
		for _, tt := range []struct {
			name string
			size int32
			want int
		}{{"usual", 0, 20}, {"asked", 7, 7}, {"most", 100, 100}, {"too many", 1000, 100}} {
			for kind, read := range map[string]func() ([]*pb.Photo, bool, error){
				"home": func() ([]*pb.Photo, bool, error) {
					r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "ann", PageSize: tt.size})
					return r.GetPhotos(), r.GetHasMore(), err
				},
				"author": func() ([]*pb.Photo, bool, error) {
					r, err := p.api.GetAuthorFeed(t.Context(), &pb.GetAuthorFeedRequest{UserId: "bob", AuthorId: "ann", PageSize: tt.size})
					return r.GetPhotos(), r.GetHasMore(), err
				},
			} {
				if photos, more, err := read(); err != nil || len(photos) != tt.want || !more {
					t.Errorf("%s, %s: %d posts, more %v, %v; want %d", kind, tt.name, len(photos), more, err, tt.want)
				}
			}
		}
		_, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "ann", PageSize: -1})
		if f := fault.Of(err); f == nil || f.Field != "page_size" {
			t.Errorf("page_size -1: %v", err)
		}
	})
}

func TestShiftKeepsNineteenDigits(t *testing.T) {
	t.Parallel()
	const first, last, some event.ID = 1_000_000_000_000_000_000, 1<<63 - 1, 1573987284942897152
	for _, tt := range []struct {
		name string
		id   event.ID
		by   time.Duration
		want event.ID
	}{
		{"back", some, -disorder, event.FirstID(some.Time().Add(-disorder))},
		{"on", some, disorder, event.FirstID(some.Time().Add(disorder))},
		{"before the first", first, -disorder, first},
		{"beyond the last", last, disorder, last},
	} {
		if got := shift(tt.id, tt.by); got != tt.want || len(got.String()) != 19 {
			t.Errorf("%s: shift(%v, %v) = %v, want %v", tt.name, tt.id, tt.by, got, tt.want)
		}
	}
}

func TestConfigJoinsItsFaults(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("Validate of the zero value: %v", err)
	}
	err := Config{Cap: -1, Pipelines: -1, RedisTimeout: time.Minute}.Validate()
	for _, name := range []string{"cap:", "pipelines:", "redis-timeout:"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Validate = %v, does not name %s", err, name)
		}
	}
	_, err = New(Config{}, Deps{Redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})})
	for _, name := range []string{"Log", "ContextTimeoutEnabled"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New = %v, does not name %s", err, name)
		}
	}
}
