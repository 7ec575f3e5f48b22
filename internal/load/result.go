package load

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"activityfeed/internal/load/longrun"
)

// Result is what a run did.
type Result struct {
	// Accepted counts the commands that the server acknowledged, by the type of
	// their event ("PhotoPosted"). It is a lower bound of what a run put into the log
	// when the server went away in between, and counts posts again that an earlier
	// run of the plan had posted.
	Accepted map[string]int64
	// Reads counts the home feeds that were opened.
	Reads int64
	// Retries counts the attempts that failed because the server was away or busy.
	Retries int64
	// Elapsed is how long the run took.
	Elapsed time.Duration
}

// Total returns the number of commands that the server acknowledged.
func (r Result) Total() int64 {
	var n int64
	for _, accepted := range r.Accepted {
		n += accepted
	}
	return n
}

// Rate returns commands a second.
func (r Result) Rate() float64 { return longrun.Rate(r.Total(), r.Elapsed) }

// Write prints the result as a table.
func (r Result) Write(out io.Writer) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight}})
	t.AppendHeader(table.Row{"load", "count"})
	for _, name := range eventTypes {
		if n := r.Accepted[name]; n > 0 {
			t.AppendRow(table.Row{name, longrun.Count(n)})
		}
	}
	t.AppendSeparator()
	t.AppendRow(table.Row{"commands accepted", longrun.Count(r.Total())})
	t.AppendRow(table.Row{"commands a second", longrun.Count(int64(r.Rate()))})
	if r.Reads > 0 {
		t.AppendRow(table.Row{"feeds opened", longrun.Count(r.Reads)})
	}
	t.AppendRow(table.Row{"retries", longrun.Count(r.Retries)})
	t.AppendRow(table.Row{"elapsed", r.Elapsed.Round(10 * time.Millisecond).String()})
	if _, err := fmt.Fprintln(out, t.Render()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func (r *run) result(elapsed time.Duration) Result {
	res := Result{
		Accepted: make(map[string]int64),
		Reads:    r.done[kindRead].Load(),
		Retries:  r.retries.Count(),
		Elapsed:  elapsed,
	}
	for k, name := range eventTypes {
		if n := r.done[k].Load(); n > 0 && name != "" {
			res.Accepted[name] = n
		}
	}
	return res
}
