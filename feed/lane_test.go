package feed

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// echo answers each command with its own number, after a second; errors are those
// of numbers that 7 divides.
type echo struct {
	sizes []int
	ran   []string
}

func (e *echo) exec(_ context.Context, cmds []redis.Cmder) error {
	e.sizes = append(e.sizes, len(cmds))
	time.Sleep(time.Second) // virtual
	for _, cmd := range cmds {
		n := cmd.Args()[1].(string)
		e.ran = append(e.ran, n)
		if n == "7" {
			cmd.SetErr(errTapped)
		}
	}
	return nil
}

// Who only waits shares a pipeline that was filled afterwards, and hears how it went.
func TestWaitingForAPipeline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		err   error
		cmds  int // of another caller who comes at the same time
		sizes []int
	}{
		{"alone", nil, 0, []int{1, 0}},
		{"with others", nil, 3, []int{1, 3}},
		{"which fails", errTapped, 0, []int{1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var e echo
				l := newLane(1, 10, func(ctx context.Context, cmds []redis.Cmder) error {
					_ = e.exec(ctx, cmds)
					return tt.err
				})
				var callers sync.WaitGroup
				callers.Go(func() { _ = l.do(t.Context(), command(1)) })
				synctest.Wait()
				start := time.Now()
				callers.Go(func() { _ = l.do(t.Context(), commands(tt.cmds)...) })
				err := l.wait(t.Context())
				if took := time.Since(start); took != 2*time.Second || !errors.Is(err, tt.err) {
					t.Errorf("wait = %v after %s, want %v after the pipeline under way and its own", err, took, tt.err)
				}
				callers.Wait()
				if !slices.Equal(e.sizes, tt.sizes) {
					t.Errorf("pipelines of %v commands, want %v", e.sizes, tt.sizes)
				}
			})
		})
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	l := newLane(1, 10, (&echo{}).exec)
	l.slots <- struct{}{}
	if err := l.wait(over); !errors.Is(err, context.Canceled) {
		t.Errorf("wait of a caller who has left = %v", err)
	}
}

func TestRequestsShareAPipeline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		first  int // commands of a request that is under way
		others []int
		want   []int // commands of each pipeline
	}{
		{"a lone one waits for nobody", 1, nil, []int{1}},
		{"those who come meanwhile go together", 1, []int{2, 2, 3}, []int{1, 7}},
		{"up to the size of a pipeline", 1, []int{6, 4, 6}, []int{1, 10, 6}},
		{"what belongs together stays together", 1, []int{25, 1}, []int{1, 25, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var e echo
				l := newLane(1, 10, e.exec)
				l.gather = true
				var requests sync.WaitGroup
				begin := func(n int) {
					requests.Go(func() {
						cmds := make([]redis.Cmder, n)
						for i := range cmds {
							cmds[i] = command(i + 1)
						}
						if err := l.do(t.Context(), cmds...); (err != nil) != (n >= 7) {
							t.Errorf("do of %d commands = %v", n, err)
						}
					})
					synctest.Wait()
				}
				begin(tt.first)
				for _, n := range tt.others {
					begin(n)
				}
				requests.Wait()
				if len(e.sizes) != len(tt.want) {
					t.Fatalf("pipelines of %v, want %v", e.sizes, tt.want)
				}
				for i, n := range tt.want {
					if e.sizes[i] != n {
						t.Fatalf("pipelines of %v, want %v", e.sizes, tt.want)
					}
				}
			})
		})
	}
}

func TestARequestThatEndsTakesNoOtherAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e echo
		l := newLane(1, 10, e.exec)
		l.gather = true
		first, cancelFirst := context.WithCancel(t.Context())
		var leaving sync.WaitGroup
		leaving.Go(func() { _ = l.do(first, command(1)) })
		synctest.Wait()
		// The one who sends ends while the pipeline is under way, and one who waits
		// before it is sent.
		cancelFirst()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.do(ctx, command(2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("do = %v, want a deadline", err)
		}
		if err := l.do(t.Context(), command(3)); err != nil {
			t.Error(err)
		}
		leaving.Wait()
		if len(e.ran) != 2 || e.ran[0] != "1" || e.ran[1] != "3" {
			t.Errorf("ran %v, want 1 and 3", e.ran)
		}
		if err := l.do(t.Context()); err != nil {
			t.Errorf("do of nothing = %v", err)
		}
	})
}

// A caller whose commands somebody else sends has its answer when they have run,
// however long the pipelines are that could be sent meanwhile.
func TestLaneAnswersBeforeItServesOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The number of its first command is how many seconds a pipeline takes.
		l := newLane(2, 2, func(_ context.Context, cmds []redis.Cmder) error {
			seconds, err := strconv.Atoi(cmds[0].Args()[1].(string))
			time.Sleep(time.Duration(seconds) * time.Second)
			return err
		})
		took := make([]time.Duration, 5)
		start := time.Now()
		var callers sync.WaitGroup
		for i, cmds := range [][]redis.Cmder{
			{command(1)}, {command(2)}, // both slots are taken
			{command(5)}, {command(0)}, // sent together, by the first of the two
			{command(100), command(100)},
		} {
			callers.Go(func() {
				if err := l.do(t.Context(), cmds...); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(start)
			})
			synctest.Wait()
		}
		callers.Wait()
		if want := []time.Duration{1 * time.Second, 2 * time.Second, 6 * time.Second, 6 * time.Second, 102 * time.Second}; !slices.Equal(took, want) {
			t.Errorf("the callers waited %v, want %v", took, want)
		}
	})
}
