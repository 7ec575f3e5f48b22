package audit

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"activityfeed/internal/load/longrun"
)

// recheckAtOnce bounds how many feeds are read again between two waits for the
// consumers: their differences are in memory.
const recheckAtOnce = 500

// suspect is a user whose feed differed.
type suspect struct {
	user string
	// first is what was found first.
	first Difference
}

// feeds reads all feeds and reads those that differ again.
func (a *auditor) feeds(ctx context.Context, users []string) error {
	if err := a.catchUp(ctx); err != nil {
		return err
	}
	before := a.applied()
	if err := a.settle(ctx, a.cfg.FeedGroup); err != nil {
		return err
	}
	var (
		mu       sync.Mutex
		suspects []suspect
	)
	err := a.each(ctx, "feeds", users, func(ctx context.Context, _ int, user string) error {
		want := a.home(user)
		got, err := a.read(ctx, user, len(want))
		if err != nil {
			return err
		}
		found := compare(user, got, want, a.explain(user))
		mu.Lock()
		defer mu.Unlock()
		a.report.Users++
		a.report.Posts += int64(len(got.posts))
		if len(found) > 0 {
			suspects = append(suspects, suspect{user, found[0]})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := a.catchUp(ctx); err != nil {
		return err
	}
	quiet := a.applied() == before
	slices.SortFunc(suspects, func(a, b suspect) int { return strings.Compare(a.user, b.user) })
	a.report.Rechecked = len(suspects)
	for round := 1; round <= a.cfg.Rounds && len(suspects) > 0; round++ {
		var unsettled []suspect
		for chunk := range slices.Chunk(suspects, recheckAtOnce) {
			still, err := a.recheck(ctx, chunk, quiet)
			if err != nil {
				return err
			}
			unsettled = append(unsettled, still...)
		}
		suspects = unsettled
	}
	a.report.Unsettled = len(suspects)
	return nil
}

// recheck reads feeds again, from a moment at which the consumers have what the
// model has. It reports those that differ although their definition stayed what it
// was, and returns those of which nothing can be said because it did not.
func (a *auditor) recheck(ctx context.Context, suspects []suspect, quiet bool) ([]suspect, error) {
	if err := a.catchUp(ctx); err != nil {
		return nil, err
	}
	want := make(map[string][]Post, len(suspects))
	users := make([]string, len(suspects))
	for i, s := range suspects {
		users[i] = s.user
		want[s.user] = a.home(s.user)
	}
	if err := a.settle(ctx, a.cfg.FeedGroup); err != nil {
		return nil, err
	}
	found := make([][]Difference, len(suspects)) // each worker writes its own entries
	err := a.each(ctx, "recheck", users, func(ctx context.Context, i int, user string) error {
		got, err := a.read(ctx, user, len(want[user]))
		found[i] = compare(user, got, want[user], a.explain(user))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := a.catchUp(ctx); err != nil {
		return nil, err
	}
	var unsettled []suspect
	for i, s := range suspects {
		switch {
		case len(found[i]) == 0 && quiet:
			d := s.first
			d.Reason = string(d.Kind) + " at the first read: " + d.Reason
			d.Kind = Healed
			a.found(d)
		case len(found[i]) == 0:
			// It changed while it was read.
		case slices.Equal(want[s.user], a.home(s.user)):
			for _, d := range found[i] {
				a.found(d)
			}
		default:
			unsettled = append(unsettled, s)
		}
	}
	return unsettled, nil
}

// each calls do for every user, several at once, with a progress bar.
func (a *auditor) each(ctx context.Context, title string, users []string, do func(ctx context.Context, i int, user string) error) error {
	bar := longrun.StartBar(a.progress, longrun.BarConfig{
		Title: title, Total: int64(len(users)), Terminal: a.cfg.Terminal, Interval: a.cfg.ProgressInterval, Note: a.retries.Note,
	})
	defer bar.Stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(a.cfg.Workers)
	for i, user := range users {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := do(ctx, i, user)
			if err == nil {
				bar.Add(1)
			}
			return err
		})
	}
	return group.Wait()
}
