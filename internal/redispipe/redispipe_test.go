package redispipe_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redispipe"
	"activityfeed/internal/testenv"
)

// unanswered gives up all pipelines from the second on.
type unanswered struct{ pipelines int }

func (u *unanswered) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (u *unanswered) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (u *unanswered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if u.pipelines++; u.pipelines > 1 {
			over, cancel := context.WithCancel(ctx)
			cancel()
			return next(over, cmds)
		}
		return next(ctx, cmds)
	}
}

// A script that Redis has forgotten is taught; if it then does not answer, that is what
// the command says, not that the script is unknown, which would be no outage.
func TestScriptsAreTaughtAgain(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testenv.MiniRedis(t).Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	defer client.Close()
	one := redispipe.NewScript("return 1")
	pipe := redispipe.New(client, time.Minute, one)
	taught := one.Int(t.Context(), []string{"key"})
	if err := pipe.Exec(t.Context(), taught); err != nil || taught.Val() != 1 {
		t.Errorf("Exec = %v, %v, want 1", taught.Val(), err)
	}
	if err := client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	client.AddHook(&unanswered{})
	lost := one.Int(t.Context(), []string{"key"})
	if err := pipe.Exec(t.Context(), lost); !errors.Is(err, context.Canceled) || !errors.Is(lost.Err(), context.Canceled) {
		t.Errorf("Exec = %v, the command %v, want that nobody answered", err, lost.Err())
	}
}
