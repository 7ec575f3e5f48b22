package audit

import (
	"context"
	"fmt"
	"time"

	"activityfeed/internal/load/longrun"
)

// counts compares how many events of each type the log and the table have.
func (a *auditor) counts(ctx context.Context) error {
	for round := 1; ; round++ {
		if err := a.catchUp(ctx); err != nil {
			return err
		}
		before := a.count()
		if a.deps.Stored == nil {
			return nil
		}
		if err := a.settle(ctx, a.cfg.StoredGroup); err != nil {
			return err
		}
		stored, err := a.stored(ctx)
		if err != nil {
			return err
		}
		if err := a.catchUp(ctx); err != nil {
			return err
		}
		after := a.count()
		a.report.Events = compareCounts(before, after, stored)
		if a.report.CountsAgree() || sum(before) == sum(after) || round == a.cfg.Rounds {
			return nil
		}
	}
}

// stored asks the table, also while it is away.
func (a *auditor) stored(ctx context.Context) (map[string]int64, error) {
	for begun := time.Now(); ; {
		stored, err := a.askStored(ctx)
		switch {
		case err == nil && stored == nil:
			return map[string]int64{}, nil // asked, and there is nothing
		case err == nil:
			return stored, nil
		case time.Since(begun) >= a.cfg.Patience || longrun.Sleep(ctx, pollInterval) != nil:
			return nil, fmt.Errorf("count stored events: %w", err)
		}
	}
}

func (a *auditor) askStored(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	return a.deps.Stored(ctx)
}

// count puts what the log has into the report and returns it by type.
func (a *auditor) count() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	counts := a.tally.counts()
	a.report.Events = compareCounts(counts, counts, nil)
	a.report.Records, a.report.Repeats = a.tally.records, a.tally.repeats()
	a.report.Unknown, a.report.Bad = a.tally.unknown, a.tally.bad
	a.report.Stored, a.report.Lost = a.tally.stored, a.tally.lost
	for _, d := range a.tally.reposted {
		a.found(d)
	}
	a.tally.reposted = nil
	return counts
}
