package feed

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func commands(n int) []redis.Cmder {
	cmds := make([]redis.Cmder, n)
	for i := range cmds {
		cmds[i] = command(i)
	}
	return cmds
}

// Short groups are served beside long ones, however many of these wait.
func TestBatcherServesShortGroupsBesideLongOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const bound, long = 2, 10
		b := newBatcher(1, long, func(_ context.Context, cmds []redis.Cmder) error {
			time.Sleep(time.Duration(len(cmds)) * time.Second)
			return nil
		}, bound)
		for range 5 {
			go func() { _ = b.do(t.Context(), commands(long)...) }()
		}
		synctest.Wait()
		start := time.Now()
		for _, tt := range []struct {
			name   string
			length int
			want   time.Duration
		}{
			{"of the shortest length", 1, 1 * time.Second},
			{"of the longest in its lane", bound, 2 * time.Second},
			{"longer: behind the five", bound + 1, (5*long + bound + 1) * time.Second},
		} {
			took := time.Now()
			if err := b.do(t.Context(), commands(tt.length)...); err != nil {
				t.Fatal(err)
			}
			if tt.length > bound {
				took = start
			}
			if d := time.Since(took); d != tt.want {
				t.Errorf("a group %s took %v, want %v", tt.name, d, tt.want)
			}
		}
	})
}

// held lets no pipeline longer than most through until it is released.
type held struct {
	most    int
	arrived chan struct{}
	release chan struct{}
}

func (h *held) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) > h.most {
			h.arrived <- struct{}{}
			<-h.release
		}
		return next(ctx, cmds)
	}
}

// While the pushes into a large audience are under way in all of their pipelines,
// another post comes to its followers.
func TestAPostDoesNotWaitForALargeAudience(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, Config{})
	star := []any{generationField, "g"}
	for i := range 4 * audiencePart {
		star = append(star, fmt.Sprintf("fan%05d", i), w.ids.Next().String())
	}
	if err := w.raw.HSet(t.Context(), followers.key("star"), star...).Err(); err != nil {
		t.Fatal(err)
	}
	p.apply(t, followed("bob", "ann"))
	p.wantHome(t, "bob")
	hold := &held{most: postLane, arrived: make(chan struct{}, 4), release: make(chan struct{})}
	p.client.AddHook(hold)
	large := make(chan error, 1)
	fact := w.event(posted("star", w.ids.Next(), w.clock.Now()))
	go func() { large <- p.deliver(t.Context(), fact, 1) }()
	for range 2 { // as many as there are
		<-hold.arrived
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.deliver(ctx, w.event(posted("ann", w.ids.Next(), w.clock.Now())), 1); err != nil {
		t.Errorf("a post behind a large audience: %v", err)
	}
	if list := w.list(t, "bob"); len(list) != 2 { // and the sentinel
		t.Errorf("the follower's list is %v, want the post", list)
	}
	close(hold.release)
	if err := <-large; err != nil {
		t.Error(err)
	}
}

// Commands that served one post serve the next one, into other feeds and fewer.
func TestPushPool(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { client.Close() })
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { cluster.Close() })
	for _, tt := range []struct {
		name   string
		client redis.UniversalClient
		once   bool
	}{{"one Redis", client, false}, {"a cluster, whose client notes the node in the command", cluster, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := newPushPool(tt.client)
			known := map[redis.Cmder]bool{}
			for id, feeds := range [][]string{{"a", "b", "c"}, {"d"}, {"e", "f", "g", "h"}, {"i", "j", "k"}, {"l", "m", "n", "o", "p"}} {
				p := pool.take(len(feeds))
				p.fill(1_000_000_000_000_000_000, feeds)
				for i, feed := range feeds {
					if args := p.cmds[i].Args(); *args[1].(*string) != feed || args[2] != "1000000000000000000" || args[0] != "lpushx" {
						t.Errorf("post %d: command %d is %v, want a push into %s", id, i, args, feed)
					}
					// Elsewhere they may be: a pool forgets when it likes.
					if tt.once && known[p.cmds[i]] {
						t.Errorf("post %d: command %d served before", id, i)
					}
					known[p.cmds[i]] = true
				}
				pool.put(p)
			}
		})
	}
}

// A scan of a large audience may return parts without a follower.
func TestPushOfAnEmptyPart(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	p := w.process(t, Config{})
	for _, again := range []bool{false, true} {
		if n, err := p.store.pushAll(t.Context(), w.ids.Next(), nil, again); n != 0 || err != nil {
			t.Errorf("pushAll of nothing, again %v = %d, %v", again, n, err)
		}
	}
}
