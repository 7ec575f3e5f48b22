package post

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

var someTime = time.Date(2026, 11, 22, 10, 20, 30, 0, time.UTC)

// at returns an attempt whose post has this time.
func at(when time.Time) attempt { return attempt{post: event.FirstID(when)} }

func TestIndexForgetsAndKeepsTheFirstFact(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	key := keyOf("ann", "k")
	for _, tt := range []struct {
		name string
		// added are the ages of the facts of the key, in the order of the log.
		added []time.Duration
		// want is the age of the fact that the key stands for; negative for none.
		want time.Duration
	}{
		{"nothing", nil, -1},
		{"just within the window", []time.Duration{day - time.Millisecond}, day - time.Millisecond},
		{"just outside", []time.Duration{day}, -1},
		{"twice: the first of the log", []time.Duration{2 * time.Hour, time.Hour}, 2 * time.Hour},
		{"twice, made in another order: the first of the log", []time.Duration{time.Hour, 2 * time.Hour}, time.Hour},
		{"again after the window", []time.Duration{day + time.Hour, time.Minute}, time.Minute},
		{"replayed", []time.Duration{time.Hour, time.Hour}, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newIndex(day)
			for _, age := range tt.added {
				x.add(key, at(someTime.Add(-age)), someTime)
			}
			got, ok := x.get(key, someTime)
			if ok != (tt.want >= 0) || ok && !got.post.Time().Equal(someTime.Add(-tt.want)) {
				t.Errorf("get() = %s, %t; want an age of %s", got.post.Time(), ok, tt.want)
			}
			if _, ok := x.get(keyOf("bob", "k"), someTime); ok {
				t.Error("get() finds another user's key")
			}
		})
	}
}

func TestIndexGivesItsMemoryBack(t *testing.T) {
	t.Parallel()
	x := newIndex(24 * time.Hour)
	now := someTime
	for i := range 100 {
		x.add(keyOf("ann", fmt.Sprint(i)), at(now), now)
		now = now.Add(time.Hour)
	}
	if got := len(x.hours); got > 26 {
		t.Errorf("the index holds %d hours, want those of a day", got)
	}
}

func TestAttemptsAreForgotten(t *testing.T) {
	t.Parallel()
	a := newAttempts()
	first, second := keyOf("ann", "1"), keyOf("ann", "2")
	a.put(first, at(someTime), someTime)
	a.put(second, at(someTime), someTime)
	// A further try of the first: it stays longer.
	a.put(first, at(someTime), someTime.Add(time.Minute))
	for _, tt := range []struct {
		after         time.Duration
		first, second bool
	}{
		{settleTime - 1, true, true},
		{settleTime, true, false},
		{settleTime + time.Minute - 1, true, false},
		{settleTime + time.Minute, false, false},
	} {
		_, gotFirst := a.get(first, someTime.Add(tt.after))
		_, gotSecond := a.get(second, someTime.Add(tt.after))
		if gotFirst != tt.first || gotSecond != tt.second {
			t.Errorf("after %s: known = %t, %t; want %t, %t", tt.after, gotFirst, gotSecond, tt.first, tt.second)
		}
	}
	if len(a.byKey) != 0 || len(a.order) != 0 {
		t.Errorf("%d keys and %d places are left", len(a.byKey), len(a.order))
	}
}

func TestKeyLocksWaitInTurnAndLeaveNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l keyLocks
		key := keyOf("ann", "k")
		unlock, err := l.lock(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.lock(impatient, key); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lock() = %v", err)
		}
		passed := false
		go func() {
			unlock, err := l.lock(t.Context(), key)
			if err != nil {
				t.Error(err)
				return
			}
			passed = true
			unlock()
		}()
		synctest.Wait()
		if passed {
			t.Error("two hold the lock")
		}
		unlock()
		synctest.Wait()
		if !passed || len(l.locks) != 0 {
			t.Errorf("passed = %t, %d locks are left", passed, len(l.locks))
		}
	})
}

// brokenTail fails some times before it runs, and counts the questions.
type brokenTail struct {
	failures  int
	questions int
	caughtUp  chan struct{}
}

func (b *brokenTail) Run(ctx context.Context, _ func(*message.Message) error) error {
	if b.failures > 0 {
		b.failures--
		return errors.New("broken")
	}
	<-ctx.Done()
	return nil
}

func (b *brokenTail) CaughtUp(ctx context.Context) error {
	b.questions++
	select {
	case <-b.caughtUp:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type noPublisher struct{}

func (noPublisher) PublishContext(context.Context, string, ...*message.Message) error { return nil }

func newPost(t *testing.T, tail tail) *Post {
	t.Helper()
	ids, err := event.NewIDs(0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{}, Deps{
		Log: slog.New(slog.DiscardHandler), Publisher: noPublisher{}, Tail: tail, IDs: ids,
		Now: time.Now, Source: "test", Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunFollowsTheLogAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tail := &brokenTail{failures: 3}
		p := newPost(t, tail)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		start := time.Now()
		go func() { done <- p.Run(ctx) }()
		time.Sleep(3 * retryPause)
		synctest.Wait()
		if tail.failures != 0 {
			t.Errorf("%d failures are left after %s", tail.failures, time.Since(start))
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if err := p.caughtUp(t.Context()); !errors.Is(err, errStopped) {
			t.Errorf("caughtUp() after Run = %v", err)
		}
	})
}

// One question is out; all who come meanwhile share the next one, and only that.
func TestLookupsShareTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tail := &brokenTail{caughtUp: make(chan struct{})}
		p := newPost(t, tail)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()

		var answered atomic.Int32
		ask := func() {
			go func() {
				if err := p.caughtUp(t.Context()); err != nil {
					t.Error(err)
				}
				answered.Add(1)
			}()
			synctest.Wait()
		}
		ask()
		for range 10 {
			ask()
		}
		tail.caughtUp <- struct{}{}
		synctest.Wait()
		if got := answered.Load(); got != 1 {
			t.Errorf("%d are answered by a question that was put before they came", got-1)
		}
		tail.caughtUp <- struct{}{}
		synctest.Wait()
		if got := answered.Load(); got != 11 || tail.questions != 2 {
			t.Errorf("%d of 11 answered with %d questions, want 2", got, tail.questions)
		}
		cancel()
		<-done
	})
}

func TestLookupsEndWithTheirTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, &brokenTail{caughtUp: make(chan struct{})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		start := time.Now()
		if err := p.caughtUp(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("caughtUp() = %v", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("caughtUp() took %s, want %s", took, 5*time.Second)
		}
		cancel()
		<-done
	})
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"all faults of the settings", Config{IdempotencyWindow: -1, LookupTimeout: -1, PublishTimeout: -1}, []string{"idempotency-window", "lookup-timeout", "publish-timeout"}},
		{"missing deps", Config{}, []string{"Publisher", "Tail", "IDs"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tt.cfg, Deps{})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %v, want it to name %q", err, want)
				}
			}
		})
	}
}

// Whoever calls past internal/rpc meets the rules of the facts, in the words of
// the request.
func TestServiceValidatesByItself(t *testing.T) {
	t.Parallel()
	s := service{post: newPost(t, &brokenTail{})}
	for _, tt := range []struct {
		name  string
		call  func() error
		field string
	}{
		{"user", func() error {
			_, err := s.PostPhoto(t.Context(), &pb.PostPhotoRequest{UserId: "a b", Media: []*pb.Media{{Url: "https://x/y", Width: 1, Height: 1}}})
			return err
		}, "user_id"},
		{"picture", func() error {
			_, err := s.PostPhoto(t.Context(), &pb.PostPhotoRequest{UserId: "ann", Media: []*pb.Media{{Url: "https://x/y", Width: 1}}})
			return err
		}, "media[0].height"},
		{"delete", func() error {
			_, err := s.DeletePhoto(t.Context(), &pb.DeletePhotoRequest{UserId: "", PostId: "1570000000000000000"})
			return err
		}, "user_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.call()
			if f := fault.Of(err); f == nil || f.Kind != fault.InvalidArgument || f.Field != tt.field {
				t.Errorf("error = %v, want INVALID_ARGUMENT on %s", err, tt.field)
			}
		})
	}
}
