package push_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"activityfeed/notify/push"
)

// answers is a Sender whose devices are told what to answer.
type answers map[string]push.Outcome

func (a answers) Send(_ context.Context, to push.Target, _ push.Message) push.Outcome {
	return a[to.Token]
}
func (answers) Check(push.Target) error { return nil }

var (
	fine    = push.Outcome{Action: push.OK, Reason: push.Delivered}
	suspect = push.Outcome{Action: push.Suspect, Reason: push.BadToken, Scope: push.ScopeOrigin, Guilty: push.Prune}
	refused = push.Outcome{Action: push.Suspect, Reason: push.Unauthorized, Scope: push.ScopeOrigin, Guilty: push.Drop}
	limited = push.Outcome{Action: push.Retry, Reason: push.RateLimited, RetryAfter: time.Minute}
)

// step is one attempt and what the judge must make of it.
type step struct {
	device string
	answer push.Outcome
	want   push.Action
	scope  push.Scope
	after  time.Duration
}

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := map[string][]step{
		"alone, never decided": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
		},
		"guilty when a neighbour succeeds between": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"b", fine, push.OK, push.ScopeDevice, 0},
			{"a", suspect, push.Prune, push.ScopeDevice, 0},
		},
		"an earlier success condemns nobody": {
			{"b", fine, push.OK, push.ScopeDevice, 0},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
		},
		"its own recovery is no guilt": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"a", fine, push.OK, push.ScopeDevice, 0},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
		},
		"three in a row pause their origin, longer each time": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"b", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"c", suspect, push.Pause, push.ScopeOrigin, time.Minute},
			{"a", suspect, push.Pause, push.ScopeOrigin, time.Minute - time.Second},
			{"", push.Outcome{}, 0, 0, 2 * time.Minute},
			{"a", suspect, push.Pause, push.ScopeOrigin, 2 * time.Minute},
		},
		"a success ends the pause's growth": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"b", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"c", suspect, push.Pause, push.ScopeOrigin, time.Minute},
			{"d", fine, push.OK, push.ScopeDevice, 0},
			{"e", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
		},
		"refused alone is dropped with a strike, not pruned": {
			{"a", refused, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"b", fine, push.OK, push.ScopeDevice, 0},
			{"a", refused, push.Drop, push.ScopeDevice, 0},
		},
		"a failure of two hours ago is forgotten": {
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
			{"b", fine, push.OK, push.ScopeDevice, 0},
			{"", push.Outcome{}, 0, 0, 2 * time.Hour},
			{"a", suspect, push.Retry, push.ScopeDevice, 30 * time.Second},
		},
		"a limit of three devices is one of their origin": {
			{"a", limited, push.Retry, push.ScopeDevice, time.Minute},
			{"b", limited, push.Retry, push.ScopeDevice, time.Minute},
			{"c", limited, push.Retry, push.ScopeOrigin, time.Minute},
			{"d", fine, push.OK, push.ScopeDevice, 0},
			{"a", limited, push.Retry, push.ScopeDevice, time.Minute},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				devices := answers{}
				judge := push.NewJudge(devices, nil)
				for i, s := range steps {
					if s.device == "" { // time passes
						time.Sleep(s.after)
						continue
					}
					devices[s.device] = s.answer
					got := judge.Send(t.Context(), push.Target{Provider: push.APNs, Token: s.device, App: "app"}, push.Message{})
					if got.Action != s.want || got.Scope != s.scope || got.RetryAfter != s.after {
						t.Fatalf("step %d: Send to %s = %v of %v after %v, want %v of %v after %v",
							i, s.device, got.Action, got.Scope, got.RetryAfter, s.want, s.scope, s.after)
					}
					if strike := s.want == push.Drop; got.Strike != strike {
						t.Errorf("step %d: Strike = %v, want %v", i, got.Strike, strike)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}
