package feed

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestLargeAudiences(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		p := w.process(t, Config{})
		pipe := w.raw.Pipeline()
		pipe.HSet(t.Context(), followers.key("star"), generationField, "g")
		for i := range wholeAudience + 200 {
			fan := fmt.Sprintf("fan%05d", i)
			pipe.HSet(t.Context(), followers.key("star"), fan, w.ids.Next().String())
			pipe.RPush(t.Context(), feedKey(fan), sentinel)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := p.post(t, "star")
		missing := 0
		for i := range wholeAudience + 200 {
			if !slices.Equal(w.list(t, fmt.Sprintf("fan%05d", i))[:1], []string{id}) {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%d of %d followers did not get the post", missing, wholeAudience+200)
		}
	})
}

func TestAudienceCacheFollowsEveryChange(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, w *world) {
		here, there := w.process(t, smallConfig()), w.process(t, smallConfig())
		for i, follows := range []bool{true, false, true} {
			w.clock.Advance(5 * time.Second)
			here.post(t, "ann") // fills the cache of here
			if follows {
				there.apply(t, followed("bob", "ann"))
			} else {
				there.apply(t, unfollowed("bob", "ann"))
			}
			here.wantHomes(t)
			id := here.post(t, "ann")
			if got := slices.Contains(w.list(t, "bob"), id); got != follows {
				t.Errorf("step %d: the post was pushed: %v, want %v", i, got, follows)
			}
		}
	})
}
