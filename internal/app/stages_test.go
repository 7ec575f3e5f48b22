package app_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"activityfeed/internal/app"
)

func TestRunStagesStopsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stopped []string
		part := func(name string) app.Part {
			return app.Part{Name: name, Run: func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				stopped = append(stopped, name)
				return nil
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- app.RunStages(ctx, slog.New(slog.DiscardHandler),
				[]app.Part{part("api")}, []app.Part{part("consumers")}, []app.Part{part("publisher")})
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if want := []string{"api", "consumers", "publisher"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped in order %v, want %v", stopped, want)
		}
	})
}

func TestRunStagesEndsWithItsFirstPart(t *testing.T) {
	t.Parallel()
	waits := app.Part{Name: "waits", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"failure", errors.New("port in use"), "api: port in use"},
		{"finished", app.ErrFinished, ""},
		{"silent end", nil, "api: ended on its own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ends := app.Part{Name: "api", Run: func(context.Context) error { return tt.err }}
			err := app.RunStages(t.Context(), slog.New(slog.DiscardHandler), []app.Part{waits}, []app.Part{ends})
			if tt.want == "" {
				if err != nil {
					t.Errorf("RunStages = %v, want nil", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("RunStages = %v, want %q", err, tt.want)
			}
		})
	}
}
