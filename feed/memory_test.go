package feed

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// What one process does is true in another one that has read it all before.
func TestWhatAProcessRemembersIsNeverStale(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// change happens in another process, to bob who follows ann and cat, and to
		// ann's post.
		change func(post string) proto.Message
		want   []int // of ann's and cat's posts
	}{
		{"the post is deleted", func(post string) proto.Message { return deleted("ann", post) }, []int{1}},
		{"the author is unfollowed", func(string) proto.Message { return unfollowed("bob", "ann") }, []int{1}},
		{"the author is muted", func(string) proto.Message { return &pb.UserMuted{ActorId: "bob", TargetId: "ann"} }, []int{1}},
		{"the author is blocked", func(string) proto.Message { return &pb.UserBlocked{ActorId: "bob", TargetId: "ann"} }, []int{1}},
		{"the author blocks", func(string) proto.Message { return &pb.UserBlocked{ActorId: "ann", TargetId: "bob"} }, []int{1}},
		{"somebody else is followed", func(string) proto.Message { return followed("bob", "dan") }, []int{2, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onEngines(t, func(t *testing.T, w *world) {
				writer, reader := w.process(t, smallConfig()), w.process(t, smallConfig())
				writer.apply(t, followed("bob", "ann"), followed("bob", "cat"))
				posts := []string{writer.post(t, "ann"), writer.post(t, "cat")}
				reader.wantHome(t, "bob", posts[1], posts[0])
				reader.wantHome(t, "bob", posts[1], posts[0])
				posts = append(posts, writer.post(t, "dan"))

				writer.apply(t, tt.change(posts[0]))
				want := make([]string, len(tt.want))
				for i, n := range tt.want {
					want[i] = posts[n]
				}
				reader.wantHome(t, "bob", want...)
			})
		})
	}
}

// A change of edges after the list was read, and before the list is dropped, is
// seen as well: the names of the editions tell, not the lists.
func TestEdgesAreTrueBeforeTheListIsDropped(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		writer, reader := w.process(t, smallConfig()), w.process(t, smallConfig())
		writer.apply(t, followed("bob", "ann"))
		writer.post(t, "ann")
		if got, err := reader.home(t.Context(), "bob", 10, true); err != nil || len(got) != 1 {
			t.Fatalf("home = %v, %v", got, err)
		}
		e := edge{rel: following, reverse: followers, from: "bob", to: "ann", version: w.ids.Next()}
		if err := writer.store.link(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		reader.wantHome(t, "bob")
	})
}

func TestBodyCache(t *testing.T) {
	t.Parallel()
	body := func(n int) *post {
		return &post{id: 1_573_971_296_256_004_096, body: strings.Repeat("x", n), photo: &pb.Photo{}}
	}
	news := func(c *bodyCache, items ...redis.XMessage) {
		cmd := redis.NewXStreamSliceCmd(t.Context())
		cmd.SetVal([]redis.XStream{{Stream: newsKey, Messages: items}})
		c.learn(cmd)
	}
	for _, tt := range []struct {
		name string
		do   func(c *bodyCache, learnt uint64)
		want bool
	}{
		{"a body is kept", func(c *bodyCache, learnt uint64) { c.put([]*post{body(1)}, learnt) }, true},
		{"nothing is kept before the place in the news is known", func(c *bodyCache, learnt uint64) {
			c.place = newsID{}
			c.put([]*post{body(1)}, learnt)
		}, false},
		{"nor what was read before it was", func(c *bodyCache, learnt uint64) {
			c.place = newsID{}
			newest := redis.NewXMessageSliceCmd(t.Context())
			newest.SetVal([]redis.XMessage{{ID: "8-0"}})
			c.learn(newest)
			c.put([]*post{body(1)}, learnt)
		}, false},
		{"a body that was read before a delete came is not kept", func(c *bodyCache, learnt uint64) {
			news(c, redis.XMessage{ID: "8-0", Values: map[string]any{newsField: body(1).id.String()}})
			c.put([]*post{body(1)}, learnt)
		}, false},
		{"a delete takes it out", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			news(c, redis.XMessage{ID: "8-0", Values: map[string]any{newsField: body(1).id.String()}})
		}, false},
		{"a delete of another post does not", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			news(c, redis.XMessage{ID: "8-0", Values: map[string]any{newsField: (body(1).id + 1).String()}})
		}, true},
		{"more news than are read at once empty it", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			news(c, make([]redis.XMessage, newsRead)...)
		}, false},
		{"news that cannot be read empty it", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			news(c, redis.XMessage{ID: "8-0", Values: map[string]any{newsField: "?"}})
		}, false},
		{"no answer empties it", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			cmd := redis.NewXStreamSliceCmd(t.Context())
			cmd.SetErr(errTapped)
			c.learn(cmd)
		}, false},
		{"what is beyond the limit goes", func(c *bodyCache, learnt uint64) {
			c.put([]*post{body(1)}, learnt)
			other := body(2)
			other.id++
			c.put([]*post{other}, learnt)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newBodyCache(bodyWeight + 100)
			c.place = newsID{known: true, ms: 7}
			found := make([]*post, 1)
			_, learnt := c.get([]event.ID{body(1).id}, found)
			tt.do(c, learnt)
			missing, _ := c.get([]event.ID{body(1).id}, found)
			if got := len(missing) == 0; got != tt.want {
				t.Errorf("kept = %v, want %v", got, tt.want)
			}
			if want := map[bool]int{true: body(1).weight(), false: 0}[tt.want]; c.size != want && tt.name != "what is beyond the limit goes" {
				t.Errorf("size = %d, want %d", c.size, want)
			}
		})
	}
}
