package longrun

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPatience(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		answers  []error // the last one repeats
		attempts int     // -1: until patience is over
		want     codes.Code
	}{
		{"success", []error{nil}, 1, codes.OK},
		{"back after two failures", []error{status.Error(codes.Unavailable, "x"), status.Error(codes.DeadlineExceeded, "x"), nil}, 3, codes.OK},
		{"a server that goes down cancels", []error{status.Error(codes.Canceled, "x"), nil}, 2, codes.OK},
		{"rate limit", []error{status.Error(codes.ResourceExhausted, "x"), nil}, 2, codes.OK},
		{"an answer that lasts", []error{status.Error(codes.InvalidArgument, "x")}, 1, codes.InvalidArgument},
		{"away for good", []error{status.Error(codes.Unavailable, "x")}, -1, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var attempts, told int
				start := time.Now()
				p := Patience{Timeout: time.Second, Total: time.Minute, Retried: func(error) { told++ }}
				err := p.Do(t.Context(), func(context.Context) error {
					answer := tt.answers[min(attempts, len(tt.answers)-1)]
					attempts++
					return answer
				})
				if gaveUp := errors.Is(err, ErrGaveUp); status.Code(err) != tt.want || gaveUp != (tt.attempts == -1) {
					t.Errorf("Do() = %v, want code %v", err, tt.want)
				}
				if told != attempts-1 {
					t.Errorf("told of %d retries, want %d", told, attempts-1)
				}
				switch waited := time.Since(start); {
				case tt.attempts != -1 && attempts != tt.attempts:
					t.Errorf("%d attempts, want %d", attempts, tt.attempts)
				case tt.attempts == -1 && (waited < time.Minute || waited > time.Minute+maxPause):
					t.Errorf("gave up after %s, want a minute", waited)
				}
			})
		})
	}
}

func TestPatienceTimesOutOneAttemptOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		p := Patience{Timeout: time.Second, Total: time.Minute}
		err := p.Do(t.Context(), func(ctx context.Context) error {
			if attempts++; attempts > 1 {
				return nil
			}
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		})
		if err != nil || attempts != 2 {
			t.Errorf("Do() = %v after %d attempts, want nil after 2", err, attempts)
		}
	})
}

func TestPatienceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(cause) })
		p := Patience{Timeout: time.Second, Total: time.Minute}
		err := p.Do(ctx, func(context.Context) error { return status.Error(codes.Unavailable, "x") })
		if !errors.Is(err, cause) {
			t.Errorf("Do() = %v, want %v", err, cause)
		}
	})
}

func TestBarPrintsPlainLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := StartBar(&out, BarConfig{Title: "load", Total: 4000, Note: func() string { return "2 retries" }})
		time.Sleep(4 * time.Second) // virtual
		b.Add(1500)
		time.Sleep(2 * time.Second)
		b.Add(2500)
		b.Stop()
		b.Stop()
		want := "load: 1,500 of 4,000 (37.5 %), 300/s, 2 retries\nload: 4,000 of 4,000 (100.0 %), 666/s, 2 retries\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

func TestBarDrawsOnATerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cfg   BarConfig
		done  int64
		after time.Duration
		want  string
	}{
		{"no rate in the first second", BarConfig{Title: "feeds", Total: 1000}, 999, 300 * time.Millisecond, "feeds: 999 of 1,000 (99.9 %) [============================= ]"},
		{"half", BarConfig{Title: "feeds", Total: 1000}, 500, 2 * time.Second, "feeds: 500 of 1,000 (50.0 %), 250/s [===============               ]"},
		{"nobody knows the total", BarConfig{Title: "replay"}, 22698, 2 * time.Second, "replay: 22,698, 11,349/s"},
		{"more than the total", BarConfig{Title: "replay", Total: 10}, 20, time.Second, "replay: 20 of 10 (200.0 %), 20/s [==============================]"},
		{
			"a note leaves less room",
			BarConfig{Title: "load", Total: 10, Note: func() string { return "12 retries, the last for Unavailable" }},
			10, time.Second,
			"load: 10 of 10 (100.0 %), 10/s, 12 retries, the last for Unavailable [========]",
		},
		{
			"a note leaves none",
			BarConfig{Title: "load", Total: 10, Note: func() string { return strings.Repeat("§", 100) }},
			10, time.Second,
			"load: 10 of 10 (100.0 %), 10/s, " + strings.Repeat("§", 47),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tt.cfg.Terminal = true
				b := StartBar(&out, tt.cfg)
				b.Add(tt.done)
				time.Sleep(tt.after) // virtual
				b.Stop()
				lines := strings.Split(out.String(), "\r")
				if got, want := lines[len(lines)-1], tt.want+"\x1b[K\n"; got != want || len(lines) < 3 {
					t.Errorf("%d lines, the last is %q, want %q", len(lines), got, want)
				}
			})
		})
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	var r Retries
	got := []string{r.Note()}
	for range 1200 {
		r.Add(status.Error(codes.Unavailable, "x"))
	}
	got = append(got, r.Note())
	if diff := cmp.Diff([]string{"", "1,200 retries, the last for Unavailable"}, got); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 870161: "870,161", -1234567: "-1,234,567"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}
