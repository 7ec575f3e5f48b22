// Package bench measures this system beside the ceilings of its engines, in one
// run on one machine: only the ratios mean something elsewhere. Each benchmark
// prints a table and returns the ratio that design decisions are held against.
package bench

import (
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"activityfeed/internal/load/longrun"
)

// Result is the outcome of one benchmark.
type Result struct {
	// Name is that of the command: `activityfeed bench NAME`.
	Name string
	// Ratio is what was measured, ours against the ceiling.
	Ratio float64
	// Target is what the ratio should reach.
	Target float64
}

// String returns the last line of a benchmark, for people and scripts.
func (r Result) String() string {
	return fmt.Sprintf("bench %s ratio=%.2f target=%g", r.Name, r.Ratio, r.Target)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// medianRatio is the median of the rounds' ratios, which says more than the ratio of
// the medians where a machine changes its speed from one round to the next.
func medianRatio(ours, theirs []float64) float64 {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return median(ratios)
}

// row is one thing that was measured.
type row struct {
	what string
	// rate is per second.
	rate float64
	note string
}

// writeTable prints what was measured, aligned.
func writeTable(w io.Writer, title, unit string, rows []row) {
	t := newTable(w, title, "", unit, "")
	for _, r := range rows {
		t.AppendRow(table.Row{r.what, longrun.Count(int64(r.rate)), r.note})
	}
	t.Render()
}

// newTable returns a table whose second and further columns hold numbers, but for
// one without a name. The title stands above it: a table breaks one that is wider than
// itself in the middle of a word.
func newTable(w io.Writer, title string, columns ...string) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	fmt.Fprintln(w, title)
	header, configs := table.Row{}, []table.ColumnConfig{}
	for i, name := range columns {
		header = append(header, name)
		if i > 0 && name != "" {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	return t
}
