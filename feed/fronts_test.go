package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// firstPage reads the first page of bob's feed.
func (p *process) firstPage(t testing.TB) []string {
	t.Helper()
	r, err := p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, photo := range r.GetPhotos() {
		ids = append(ids, photo.GetPostId())
	}
	return ids
}

// recalled is how many first pages came out of memory.
func (p *process) recalled(t testing.TB) float64 {
	return testenv.Value(t, p.store.metrics.fronts.WithLabelValues("memory"))
}

// keeping makes a reader who has the first page of bob, who follows ann and cat, in
// memory, and a process that writes.
func keeping(t *testing.T) (w *world, writer, reader *process, posts []string) {
	w = newWorld(t, single(testenv.Redis(t)))
	writer, reader = w.process(t, smallConfig()), w.process(t, smallConfig())
	writer.apply(t, followed("bob", "ann"), followed("bob", "cat"))
	for range 2 {
		posts = append(posts, writer.post(t, "ann"), writer.post(t, "cat"))
	}
	// The feed is built by the first; until the second nobody told what was deleted.
	for n := 0; reader.recalled(t) == 0; n++ {
		if n == 5 {
			t.Fatal("no page comes out of memory")
		}
		reader.firstPage(t)
	}
	return w, writer, reader, posts
}

func TestAFirstPageIsKeptUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, w *world, writer *process, posts []string) (newPost string)
		want   []int // of posts; the new one is the last
	}{
		{"a post", func(t *testing.T, _ *world, writer *process, _ []string) string { return writer.post(t, "ann") }, []int{4, 3, 2}},
		{"a late post behind those that are there", func(t *testing.T, w *world, writer *process, _ []string) string {
			late := posted("ann", shift(w.ids.Next(), -10*time.Minute), w.clock.Now())
			writer.apply(t, late)
			return late.GetPhoto().GetPostId()
		}, []int{3, 2, 1}},
		{"a post between two that are there", func(t *testing.T, _ *world, writer *process, posts []string) string {
			id, err := event.ParseID(posts[2])
			if err != nil {
				t.Fatal(err)
			}
			between := posted("ann", id+1, time.Now())
			writer.apply(t, between)
			return between.GetPhoto().GetPostId()
		}, []int{3, 4, 2}},
		{"a delete", func(t *testing.T, _ *world, writer *process, posts []string) string {
			writer.apply(t, deleted("cat", posts[3]))
			return ""
		}, []int{2, 1, 0}},
		{"an unfollow", func(t *testing.T, _ *world, writer *process, _ []string) string {
			writer.apply(t, unfollowed("bob", "ann"))
			return ""
		}, []int{3, 1}},
		{"a block by an author", func(t *testing.T, _ *world, writer *process, _ []string) string {
			writer.apply(t, &pb.UserBlocked{ActorId: "cat", TargetId: "bob"})
			return ""
		}, []int{2, 0}},
		{"a mute", func(t *testing.T, _ *world, writer *process, _ []string) string {
			writer.apply(t, &pb.UserMuted{ActorId: "bob", TargetId: "cat"})
			return ""
		}, []int{2, 0}},
		{"an author who becomes large", func(t *testing.T, w *world, _ *process, _ []string) string {
			return w.process(t, Config{LargeAuthor: 1, SmallAuthor: 1}).postToMany(t, "ann")
		}, []int{4, 3, 2}},
		{"a lost list", func(t *testing.T, w *world, _ *process, _ []string) string {
			w.raw.Del(t.Context(), feedKey("bob"))
			return ""
		}, []int{3, 2, 1}},
		{"a lost Redis", func(t *testing.T, w *world, _ *process, _ []string) string {
			if err := w.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			return ""
		}, nil},
		{"the time at which the expiry of the list is looked at", func(_ *testing.T, w *world, _ *process, _ []string) string {
			w.clock.Advance(Config{}.withDefaults().ColdAfter/20 + time.Second)
			return ""
		}, []int{3, 2, 1}},
		{"a connection that was lost meanwhile", func(t *testing.T, w *world, writer *process, _ []string) string {
			w.cutTracked(t)
			return writer.post(t, "cat")
		}, []int{4, 3, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, writer, reader, posts := keeping(t)
			before := reader.recalled(t)
			posts = append(posts, tt.change(t, w, writer, posts))
			want := []string{}
			for _, i := range tt.want {
				want = append(want, posts[i])
			}
			if got := reader.firstPage(t); !slices.Equal(got, want) {
				t.Errorf("first page = %v, want %v", got, want)
			}
			if reader.recalled(t) != before {
				t.Error("the page came out of memory")
			}
		})
	}
}

// postToMany posts as an author whom somebody else follows too.
func (p *process) postToMany(t *testing.T, author string) string {
	p.apply(t, followed("dan", author), followed("eve", author))
	return p.post(t, author)
}

// cutTracked closes the connections on which Redis tells of changes.
func (w *world) cutTracked(t *testing.T) {
	t.Helper()
	clients, err := w.raw.Do(t.Context(), "client", "list").Text()
	if err != nil {
		t.Fatal(err)
	}
	cut := 0
	for client := range strings.Lines(clients) {
		var id string
		for field := range strings.FieldsSeq(client) {
			name, value, _ := strings.Cut(field, "=")
			switch {
			case name == "id":
				id = value
			case name == "flags" && strings.Contains(value, "t"):
				if err := w.raw.Do(t.Context(), "client", "kill", "id", id).Err(); err != nil {
					t.Fatal(err)
				}
				cut++
			}
		}
	}
	if cut == 0 {
		t.Fatal("no connection is told of changes")
	}
}

// What does not concern a reader leaves their page in memory.
func TestAFirstPageStaysWhileOthersChange(t *testing.T) {
	t.Parallel()
	_, writer, reader, posts := keeping(t)
	for _, facts := range [][]proto.Message{
		{followed("dan", "ann")},
		{&pb.UserBlocked{ActorId: "dan", TargetId: "eve"}},
		{deleted("ann", posts[0])}, // of the second page
	} {
		before := reader.recalled(t)
		writer.apply(t, facts...)
		writer.post(t, "dan")
		if got, want := reader.firstPage(t), []string{posts[3], posts[2], posts[1]}; !slices.Equal(got, want) {
			t.Errorf("after %v: first page = %v, want %v", facts, got, want)
		}
		if reader.recalled(t) != before+1 {
			t.Errorf("after %v the page did not come out of memory", facts)
		}
	}
}

// Posts that are deleted, or hidden from the reader, stay in a list; the page that is
// made of what is left is kept as well.
func TestAFirstPageWithPostsLeftOutIsKept(t *testing.T) {
	t.Parallel()
	w, writer, reader, posts := keeping(t)
	hidden := writer.post(t, "dan")
	// As a push that was overtaken by an unfollow.
	if err := w.raw.LPushX(t.Context(), feedKey("bob"), hidden).Err(); err != nil {
		t.Fatal(err)
	}
	writer.apply(t, deleted("ann", posts[2]))
	want := []string{posts[3], posts[1], posts[0]}
	for range 2 { // the news of the push may be yet to come when the first begins
		if got := reader.firstPage(t); !slices.Equal(got, want) {
			t.Errorf("first page = %v, want %v", got, want)
		}
	}
	before := reader.recalled(t)
	if got := reader.firstPage(t); !slices.Equal(got, want) || reader.recalled(t) != before+1 {
		t.Errorf("first page = %v, want %v out of memory", got, want)
	}
	if list := w.list(t, "bob"); !slices.Contains(list, hidden) || !slices.Contains(list, posts[2]) {
		t.Errorf("the list %v lacks what was to be left out", list)
	}
}

// Whoever reads after a post was pushed sees it, however many read the same page at
// that moment.
func TestKeptPagesAreTrueAmongManyReaders(t *testing.T) {
	t.Parallel()
	_, writer, reader, _ := keeping(t)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := reader.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob", PageSize: 3}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 300 {
		want := writer.post(t, "ann")
		if got := reader.firstPage(t); got[0] != want {
			t.Errorf("first page = %v, want %s in front", got, want)
			break
		}
	}
	close(done)
	readers.Wait()
}

// A page is not kept if something may change it of which Redis does not tell.
func TestPagesOfWhichRedisDoesNotTellAreNotKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, w *world, writer *process, posts []string)
		change func(t *testing.T, w *world, writer *process, posts []string) (newPost string)
		want   []int // of posts; the new one is the last
	}{
		{"the posts of large authors are not pushed", func(t *testing.T, w *world, _ *process, _ []string) {
			w.process(t, Config{LargeAuthor: 1, SmallAuthor: 1}).postToMany(t, "ann")
		}, func(t *testing.T, w *world, _ *process, _ []string) string {
			return w.process(t, Config{LargeAuthor: 1, SmallAuthor: 1}).post(t, "ann")
		}, []int{4, -1, 3}}, // one made ann large
		{"without an edition nobody hears of edges", func(t *testing.T, w *world, _ *process, _ []string) {
			w.raw.Del(t.Context(), editionKey("bob"))
		}, func(t *testing.T, w *world, writer *process, _ []string) string {
			e := edge{rel: following, reverse: followers, from: "bob", to: "ann", version: w.ids.Next()}
			if err := writer.store.link(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			return ""
		}, []int{3, 1}},
		{"nor that a body came back", func(t *testing.T, w *world, _ *process, posts []string) {
			w.raw.Rename(t.Context(), "post:{"+posts[3]+"}", "kept:{"+posts[3]+"}")
		}, func(t *testing.T, w *world, _ *process, posts []string) string {
			w.raw.Rename(t.Context(), "kept:{"+posts[3]+"}", "post:{"+posts[3]+"}")
			return ""
		}, []int{3, 2, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, writer, _, posts := keeping(t)
			tt.before(t, w, writer, posts)
			reader := w.process(t, smallConfig())
			for range 4 {
				reader.firstPage(t)
			}
			posts = append(posts, tt.change(t, w, writer, posts))
			got := reader.firstPage(t)
			for i, n := range tt.want {
				if n >= 0 && (i >= len(got) || got[i] != posts[n]) {
					t.Errorf("post %d of the first page %v is not %s", i+1, got, posts[n])
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("first page = %v, want %d posts", got, len(tt.want))
			}
			if n := reader.recalled(t); n != 0 {
				t.Errorf("%v pages came out of memory", n)
			}
		})
	}
}

// Where Redis does not tell of changes, nothing is kept and all is as ever.
func TestPagesAreNotKeptWhereRedisDoesNotTell(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, smallConfig())
		p.apply(t, followed("bob", "ann"))
		post := p.post(t, "ann")
		for range 4 {
			if got := p.firstPage(t); !slices.Equal(got, []string{post}) {
				t.Fatalf("first page = %v, want %s", got, post)
			}
		}
		if kept, told := p.recalled(t) > 0, p.store.tracker.tells(); kept != told {
			t.Errorf("kept = %v, while Redis tells of changes = %v", kept, told)
		}
	})
}

// broken makes all pipelines of a client fail while it is on.
type broken struct{ on atomic.Bool }

func (b *broken) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (b *broken) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b *broken) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !b.on.Load() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errTapped)
		}
		return errTapped
	}
}

// Where the tracked connection fails and others do not, pages are read on those, and
// bodies stay in memory.
func TestPagesAreReadWhileTheTrackedConnectionFails(t *testing.T) {
	t.Parallel()
	w, writer, reader, posts := keeping(t)
	hook := &broken{}
	reader.store.tracker.client.AddHook(hook)
	hook.on.Store(true)
	before, bodies := reader.recalled(t), reader.store.bodies.size
	for i := range 4 {
		if i%2 == 1 {
			reader.store.fronts.forget() // else a page is in memory that cannot be asked for
		}
		posts = append(posts, writer.post(t, "ann"))
		n := len(posts)
		if got, want := reader.firstPage(t), []string{posts[n-1], posts[n-2], posts[n-3]}; !slices.Equal(got, want) {
			t.Errorf("first page = %v, want %v", got, want)
		}
		w.clock.Advance(2 * trackerRest) // it is tried again
	}
	if reader.recalled(t) != before || reader.store.bodies.size <= bodies {
		t.Errorf("%v pages came out of memory, and %d bytes of bodies became %d", reader.recalled(t)-before, bodies, reader.store.bodies.size)
	}
	hook.on.Store(false)
	w.clock.Advance(2 * trackerRest)
	for range 3 {
		reader.firstPage(t)
	}
	if reader.recalled(t) == before {
		t.Error("no page comes out of memory since the connection is back")
	}
}

// An old version of the protocol takes the command and tells nothing.
func TestPagesAreNotKeptWithoutTheProtocol(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "hello.conf")
	if err := os.WriteFile(conf, []byte("rename-command HELLO \"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testenv.RedisServer(t, embedded.RedisConfig{NoPersist: true, Settings: map[string]string{"include": conf}})
	w := newWorld(t, single(server.Addr()))
	writer, reader := w.process(t, smallConfig()), w.process(t, smallConfig())
	writer.apply(t, followed("bob", "ann"))
	for range 4 {
		post := writer.post(t, "ann")
		for range 3 {
			if got := reader.firstPage(t); got[0] != post {
				t.Fatalf("first page = %v, want %s in front", got, post)
			}
		}
	}
	if n := reader.recalled(t); n != 0 || reader.store.tracker.tells() {
		t.Errorf("%v pages came out of memory, Redis tells = %v", n, reader.store.tracker.tells())
	}
}

func TestNoTracker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		client redis.UniversalClient
		want   bool
	}{
		{"one Redis", redis.NewClient(&redis.Options{}), true},
		{"a cluster", redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}), false},
		{"a failover group", redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}}), false},
	} {
		tracker := newTracker(tt.client, time.Second, time.Now, nil, nil, nil)
		if got := tracker != nil; got != tt.want {
			t.Errorf("%s: tracker = %v, want %v", tt.name, got, tt.want)
		}
		if err := errors.Join(tracker.close(), tt.client.Close()); err != nil {
			t.Error(err)
		}
	}
	for err, want := range map[string]bool{
		"ERR unknown subcommand": true, "NOPERM this user has no permissions": true, "NOPROTO unsupported": true,
		"BUSY Redis is busy": false, "LOADING Redis is loading": false, "NOAUTH Authentication required.": false,
	} {
		if got := refusal(redisError(err)); got != want {
			t.Errorf("refusal of %q = %v, want %v", err, got, want)
		}
	}
	if refusal(nil) || refusal(errTapped) {
		t.Error("an answer that never came is a refusal")
	}
}

// redisError is an error that Redis answers.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestFrontCache(t *testing.T) {
	t.Parallel()
	page := &shownPage{photos: make([]byte, 100)}
	for _, tt := range []struct {
		name string
		do   func(c *frontCache, note *front)
		want bool
	}{
		{"a page is kept in the place of its note", func(c *frontCache, note *front) { c.keep("bob", note, page) }, true},
		{"not if its list changed meanwhile", func(c *frontCache, note *front) {
			c.changed("feed:{bob}")
			c.keep("bob", note, page)
		}, false},
		{"nor if somebody made a note since", func(c *frontCache, note *front) {
			c.changed("edition:{bob}")
			c.of("bob", 20, 0, time.Time{})
			c.keep("bob", note, page)
		}, false},
		{"a change of marks takes it out", func(c *frontCache, note *front) {
			c.keep("bob", note, page)
			c.changed("pulled:{bob}")
		}, false},
		{"other keys do not", func(c *frontCache, note *front) {
			c.keep("bob", note, page)
			c.changed("author:{bob}")
			c.changed("feed:{bo}")
			c.changed(newsKey)
		}, true},
		{"pages of another size do", func(c *frontCache, note *front) {
			c.keep("bob", note, page)
			c.of("bob", 5, 0, time.Time{})
		}, false},
		{"so does what is beyond the limit", func(c *frontCache, note *front) {
			c.keep("bob", note, page)
			for i := range 10 {
				c.of(fmt.Sprint(i), 20, 0, time.Time{})
			}
		}, false},
		{"and news of everything", func(c *frontCache, note *front) {
			c.keep("bob", note, page)
			c.forget()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newFrontCache(4 * frontWeight)
			tt.do(c, c.of("bob", 20, 0, time.Time{}))
			if got := c.of("bob", 20, 0, time.Time{}).page == page; got != tt.want {
				t.Errorf("kept = %v, want %v", got, tt.want)
			}
			sum := 0
			for _, f := range c.users.Values() {
				sum += f.weight()
			}
			if c.size != sum || sum > c.limit {
				t.Errorf("size = %d, want %d, %d at most", c.size, sum, c.limit)
			}
		})
	}
}

// A kept page has to know of deletes that came after it, if only of those.
func TestDeletesSince(t *testing.T) {
	t.Parallel()
	const first = event.ID(1_573_971_296_256_004_096)
	c := newBodyCache(1)
	c.place = newsID{known: true}
	for i := range uint64(newsNamed + 10) {
		c.place.seq = i
		c.learnt++
		c.named[c.learnt%newsNamed] = first + event.ID(i)
	}
	last := first + newsNamed + 9
	for _, tt := range []struct {
		name  string
		id    event.ID
		since uint64
		want  bool
	}{
		{"the last one", last, c.learnt - 1, true},
		{"the last one, which was known", last, c.learnt, false},
		{"the oldest whose name is known", last - newsNamed + 1, c.learnt - newsNamed, true},
		{"another post", last + 1, c.learnt - newsNamed, false},
		{"more than names are known of", last + 1, c.learnt - newsNamed - 1, true},
	} {
		if got, now := c.anyGone([]event.ID{tt.id}, tt.since); got != tt.want || now != c.learnt {
			t.Errorf("%s: anyGone = %v, %d, want %v, %d", tt.name, got, now, tt.want, c.learnt)
		}
	}
	before := c.learnt
	c.forget()
	if gone, _ := c.anyGone(nil, before); !gone {
		t.Error("after all was forgotten, nothing was deleted")
	}
}
