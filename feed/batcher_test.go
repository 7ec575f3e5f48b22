package feed

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func command(n int) redis.Cmder { return redis.NewIntCmd(context.Background(), "set", strconv.Itoa(n)) }

func TestBatcherSharesPipelines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers, pipelines, size = 100, 2, 10
		var mu sync.Mutex
		var sizes []int
		under, most := 0, 0
		b := newBatcher(pipelines, size, func(_ context.Context, cmds []redis.Cmder) error {
			mu.Lock()
			sizes = append(sizes, len(cmds))
			under++
			most = max(most, under)
			mu.Unlock()
			time.Sleep(time.Second) // virtual
			mu.Lock()
			under--
			mu.Unlock()
			for _, cmd := range cmds {
				n, err := strconv.Atoi(cmd.Args()[1].(string))
				if err == nil {
					cmd.(*redis.IntCmd).SetVal(int64(n))
				}
				if n%7 == 0 {
					cmd.SetErr(errTapped)
				}
			}
			return nil
		})
		var wg sync.WaitGroup
		for n := range callers {
			wg.Go(func() {
				cmd := command(n)
				err := b.do(t.Context(), cmd)
				if (err != nil) != (n%7 == 0) || cmd.(*redis.IntCmd).Val() != int64(n) {
					t.Errorf("do(%d) = %d, %v", n, cmd.(*redis.IntCmd).Val(), err)
				}
			})
		}
		wg.Wait()
		total := 0
		for _, n := range sizes {
			total += n
		}
		if total != callers || most != pipelines || len(sizes) > callers/size+pipelines {
			t.Errorf("%d commands in pipelines %v, %d at once", total, sizes, most)
		}
	})
}

func TestBatcherForgetsWhomNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBatcher(1, 10, func(_ context.Context, cmds []redis.Cmder) error {
			time.Sleep(time.Minute)
			for _, cmd := range cmds {
				ran = append(ran, cmd.Args()[1].(string))
			}
			return nil
		})
		go func() { _ = b.do(t.Context(), command(1)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.do(ctx, command(2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("do = %v, want a deadline", err)
		}
		if err := b.do(t.Context(), command(3)); err != nil {
			t.Error(err)
		}
		if got := len(ran); got != 2 || ran[0] != "1" || ran[1] != "3" {
			t.Errorf("ran %v, want 1 and 3", ran)
		}
	})
}

func TestBatcherKeepsAGroupTogether(t *testing.T) {
	t.Parallel()
	b := newBatcher(1, 2, func(_ context.Context, cmds []redis.Cmder) error {
		if len(cmds) != 5 {
			t.Errorf("a pipeline of %d commands, want the 5 of the group", len(cmds))
		}
		return nil
	})
	if err := b.do(t.Context(), command(1), command(2), command(3), command(4), command(5)); err != nil {
		t.Error(err)
	}
	if err := b.do(t.Context()); err != nil {
		t.Error(err)
	}
}
