package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Repair says what a repair was about and what it left.
type Repair struct {
	// Users is how many users it was about: the readers of feeds that differed, and
	// the authors of the posts in question.
	Users int
	// Left counts what differs afterwards, by kind; nil if nothing does.
	Left map[Kind]int64
}

// repair hands over all who are concerned by what was found, and reads the feeds
// that differed again.
func (a *auditor) repair(ctx context.Context) error {
	if len(a.drifted) == 0 || a.deps.Repair == nil {
		return nil
	}
	concerned, readers := map[string]struct{}{}, map[string]struct{}{}
	for _, d := range a.drifted {
		readers[d.User], concerned[d.User] = struct{}{}, struct{}{}
		if d.AuthorID != "" {
			concerned[d.AuthorID] = struct{}{}
		}
	}
	users := slices.Sorted(maps.Keys(concerned))
	a.deps.Log.Info("audit repairs", "users", len(users))
	if err := a.deps.Repair(ctx, users); err != nil {
		return fmt.Errorf("repair what concerns %d users: %w", len(users), err)
	}
	found, examples := a.report.Differences, a.report.Examples
	a.report.Differences, a.repairing = make(map[Kind]int64), true
	err := a.reread(ctx, slices.Sorted(maps.Keys(readers)))
	a.repairing = false
	a.report.Repair = &Repair{Users: len(users)}
	// What heals by itself is no difference after a repair.
	if delete(a.report.Differences, Healed); len(a.report.Differences) > 0 {
		a.report.Repair.Left = a.report.Differences
	}
	a.report.Differences, a.report.Examples = found, examples
	return err
}

// reread reads feeds until each is known to differ or not.
func (a *auditor) reread(ctx context.Context, users []string) error {
	suspects := make([]suspect, len(users))
	for i, user := range users {
		suspects[i] = suspect{user: user}
	}
	for round := 1; round <= a.cfg.Rounds && len(suspects) > 0; round++ {
		var unsettled []suspect
		for chunk := range slices.Chunk(suspects, recheckAtOnce) {
			still, err := a.recheck(ctx, chunk, false)
			if err != nil {
				return err
			}
			unsettled = append(unsettled, still...)
		}
		suspects = unsettled
	}
	return nil
}
