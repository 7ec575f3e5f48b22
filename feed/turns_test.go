package feed

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"activityfeed/internal/fault"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	const forever = time.Hour
	// Builds last a second; all come at the same moment, in their order.
	for _, tt := range []struct {
		name     string
		atOnce   int
		patience []time.Duration
		want     []time.Duration // when the turn came; -1: turned away at once
	}{
		{"one", 1, []time.Duration{forever}, []time.Duration{0}},
		{"as many as are let in", 2, []time.Duration{0, 0}, []time.Duration{0, 0}},
		{"in the order in which they came", 1, []time.Duration{forever, forever, forever}, []time.Duration{0, 1 * time.Second, 2 * time.Second}},
		{"two at once", 2, []time.Duration{forever, forever, forever, forever, forever}, []time.Duration{0, 0, 1 * time.Second, 1 * time.Second, 2 * time.Second}},
		{
			"who would wait longer than they have does not wait", 1,
			[]time.Duration{forever, 1500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second},
			[]time.Duration{0, 1 * time.Second, -1, 2 * time.Second},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				turns := newTurns(tt.atOnce, time.Now)
				turns.lasts = time.Second
				start := time.Now()
				got := make([]time.Duration, len(tt.patience))
				var readers sync.WaitGroup
				for i, patience := range tt.patience {
					readers.Go(func() {
						done, again, err := turns.take(t.Context(), patience)
						got[i] = time.Since(start)
						switch {
						case err != nil:
							t.Error(err)
						case done == nil:
							if again < soonest || got[i] != 0 {
								t.Errorf("told after %v to come again in %v", got[i], again)
							}
							got[i] = -1
						default:
							time.Sleep(time.Second)
							done()
						}
					})
					synctest.Wait()
				}
				readers.Wait()
				if !slices.Equal(got, tt.want) {
					t.Errorf("turns came after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestTurnsMeasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, time.Now)
		take := func(patience time.Duration) (func(), time.Duration) {
			done, again, err := turns.take(t.Context(), patience)
			if err != nil {
				t.Fatal(err)
			}
			return done, again
		}
		for range 100 {
			done, _ := take(0)
			time.Sleep(10 * time.Second)
			done()
		}
		done, _ := take(0)
		defer done()
		// The next turn is 10 s away, not a tenth of a second as was guessed at first.
		if late, again := take(9 * time.Second); late != nil || again < 9*time.Second || again > 13*time.Second {
			t.Errorf("take = %v, come again in %v, want in about 10 s", late != nil, again)
		}
		// A build that hangs holds nobody for longer than they have.
		start := time.Now()
		if late, again := take(11 * time.Second); late != nil || again == 0 || time.Since(start) != 11*time.Second {
			t.Errorf("take = %v, %v after %v", late != nil, again, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := turns.take(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("take = %v, want the end of the context", err)
		}
		if turns.waiting != 0 {
			t.Errorf("%d wait, want none", turns.waiting)
		}
	})
}

// Whoever cannot be built for in time is told so at once, costs nothing, and is
// served when they come again; warm feeds are read meanwhile.
func TestReadersWhoCannotBeServedInTimeAreToldWhen(t *testing.T) {
	t.Parallel()
	w := newMiniWorld(t)
	cfg := smallConfig()
	cfg.Rebuilds = 1
	p := w.process(t, cfg)
	p.apply(t, followed("bob", "ann"), followed("cat", "ann"))
	post := p.post(t, "ann")
	p.wantHome(t, "cat", post)

	done, _, err := p.store.building.take(t.Context(), 0)
	if err != nil || done == nil {
		t.Fatal(err)
	}
	p.store.building.lasts = time.Hour // each build, as was measured
	_, err = p.api.GetHomeFeed(t.Context(), &pb.GetHomeFeedRequest{UserId: "bob"})
	if f := fault.Of(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter < latest {
		t.Errorf("GetHomeFeed of a cold feed = %v, want to be told when to come again", err)
	}
	if n := testenv.Value(t, p.store.metrics.rebuilds.WithLabelValues("refused")); n != 1 {
		t.Errorf("%v were refused, want 1", n)
	}
	p.wantHome(t, "cat", post)
	done()
	p.wantHome(t, "bob", post)
}
