package audit

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "activityfeed/proto/activityfeed/v1"
)

func TestRepair(t *testing.T) {
	t.Parallel()
	broken := errors.New("no Redis")
	type tamper = func(user string, home []*pb.Photo) []*pb.Photo
	missing := func(user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			return slices.Delete(home, 1, 2) // ann's newest post
		}
		return home
	}
	strange := func(user string, home []*pb.Photo) []*pb.Photo {
		if user == "ann" {
			return append([]*pb.Photo{photo("eve", 7)}, home...)
		}
		return missing(user, home)
	}
	for _, tt := range []struct {
		name string
		// before and after are what is wrong with the feeds, before and after a repair.
		before, after tamper
		fails         error
		users         []string // whom the repair was about; nil: there was none
		left          map[Kind]int64
		clean         bool
	}{
		{"nothing to do", nil, nil, nil, nil, nil, true},
		{"the reader and the author", missing, nil, nil, []string{"ann", "bob"}, nil, true},
		{"several feeds", strange, nil, nil, []string{"ann", "bob", "eve"}, nil, true},
		{"in vain", missing, missing, nil, []string{"ann", "bob"}, map[Kind]int64{Missing: 1}, false},
		{"in part", strange, missing, nil, []string{"ann", "bob", "eve"}, map[Kind]int64{Missing: 1}, false},
		{"it fails", missing, missing, broken, []string{"ann", "bob"}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeFeed(t, newFakeLog(t, scene()...))
			var mu sync.Mutex
			wrong := tt.before
			f.tamper = func(_ context.Context, user string, home []*pb.Photo) []*pb.Photo {
				mu.Lock()
				defer mu.Unlock()
				if wrong == nil {
					return home
				}
				return wrong(user, home)
			}
			var repaired []string
			deps := f.deps(nil)
			deps.Repair = func(_ context.Context, users []string) error {
				mu.Lock()
				defer mu.Unlock()
				repaired, wrong = append(repaired, users...), tt.after
				return tt.fails
			}
			report, err := Run(t.Context(), Config{}, deps, io.Discard)
			if !errors.Is(err, tt.fails) {
				t.Fatalf("Run() = %v, want %v", err, tt.fails)
			}
			if diff := cmp.Diff(tt.users, repaired); diff != "" {
				t.Errorf("repaired (-want +got):\n%s", diff)
			}
			if tt.fails != nil {
				if !strings.Contains(err.Error(), "repair what concerns 2 users") {
					t.Errorf("Run() = %v, want whom the repair was about", err)
				}
				return
			}
			var want *Repair
			if tt.users != nil {
				want = &Repair{Users: len(tt.users), Left: tt.left}
			}
			if diff := cmp.Diff(want, report.Repair); diff != "" || report.Clean() != tt.clean {
				t.Errorf("clean %v, want %v; repair (-want +got):\n%s", report.Clean(), tt.clean, diff)
			}
			// What was found before is told all the same.
			if found := report.Differences[Missing]; (tt.before != nil) != (found == 1) {
				t.Errorf("differences = %v", report.Differences)
			}
		})
	}
}

// What is right again at the second read is told, and nobody is repaired for it.
func TestWhatHealsIsNotRepaired(t *testing.T) {
	t.Parallel()
	f := newFakeFeed(t, newFakeLog(t, scene()...))
	var once sync.Once
	f.tamper = func(_ context.Context, user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			once.Do(func() { home = home[1:] })
		}
		return home
	}
	deps := f.deps(nil)
	deps.Repair = func(_ context.Context, users []string) error {
		t.Errorf("Repair(%v)", users)
		return nil
	}
	report, err := Run(t.Context(), Config{}, deps, io.Discard)
	if err != nil || report.Repair != nil || report.Differences[Healed] != 1 {
		t.Errorf("Run() = %+v, %v; want one that healed, and no repair", report, err)
	}
}
