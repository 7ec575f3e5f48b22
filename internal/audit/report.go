package audit

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"activityfeed/internal/load/longrun"
)

// Report is what an audit found.
type Report struct {
	// Users is how many users' feeds were read, Posts how many posts these had.
	Users int
	Posts int64
	// Differences counts what differs, by kind; kinds that were not found are absent.
	Differences map[Kind]int64
	// Examples are the first differences.
	Examples []Difference
	// Rechecked is how many feeds differed at the first read and were read again.
	Rechecked int
	// Unsettled is how many feeds differed while their definition changed, each time
	// they were read. Nothing can be said of them.
	Unsettled int
	// Events compares the counts of the log with the table's, sorted by type.
	Events []EventCount
	// Records is how many records the log has. Repeats of them repeat an event,
	// Unknown are of a type that this version does not know, Bad cannot be read or say
	// the impossible; none of these count as events.
	Records, Repeats, Unknown, Bad int64
	// Stored is how many events came from a history that goes back further than the log,
	// and Lost how many of these are posts whose content was not kept; what feeds say of
	// them is a difference.
	Stored, Lost int64
	// Repair is what a repair did; nil if there was none.
	Repair *Repair
	// Elapsed is how long the audit took.
	Elapsed time.Duration
}

// EventCount is how many events of a type there are, each counted once.
type EventCount struct {
	Type string `json:"type"`
	Log  int64  `json:"log"`
	// Stored is the analytics table's count. Not set unless Compared.
	Stored int64 `json:"stored"`
	// Compared says that the table was asked.
	Compared bool `json:"compared"`
	// Differs says that the table has not what the log had at any time of the count.
	Differs bool `json:"differs"`
}

// Clean says that nothing differs, after the repair if there was one: neither feeds,
// nor counts, nor posts accepted twice. Feeds of which nothing can be said do not
// count.
func (r Report) Clean() bool {
	feeds := len(r.Differences) == 0
	if r.Repair != nil {
		feeds = len(r.Repair.Left) == 0 && r.Differences[Reposted] == 0
	}
	return feeds && r.CountsAgree()
}

// CountsAgree says that the table has as many events of each type as the log, as far
// as it was asked.
func (r Report) CountsAgree() bool {
	return !slices.ContainsFunc(r.Events, func(c EventCount) bool { return c.Differs })
}

// Write prints the report as tables.
func (r Report) Write(out io.Writer) error {
	summary := newTable("audit", "count")
	summary.AppendRow(table.Row{"users checked", longrun.Count(int64(r.Users))})
	summary.AppendRow(table.Row{"posts compared", longrun.Count(r.Posts)})
	summary.AppendRow(table.Row{"feeds read again", longrun.Count(int64(r.Rechecked))})
	summary.AppendRow(table.Row{"feeds that kept changing", longrun.Count(int64(r.Unsettled))})
	summary.AppendSeparator()
	for _, kind := range Kinds() {
		summary.AppendRow(table.Row{string(kind), longrun.Count(r.Differences[kind])})
	}
	if r.Repair != nil {
		summary.AppendSeparator()
		summary.AppendRow(table.Row{"users repaired", longrun.Count(int64(r.Repair.Users))})
		var left int64
		for _, n := range r.Repair.Left {
			left += n
		}
		summary.AppendRow(table.Row{"differences left", longrun.Count(left)})
	}
	summary.AppendSeparator()
	summary.AppendRow(table.Row{"records in the log", longrun.Count(r.Records)})
	if r.Stored > 0 {
		summary.AppendRow(table.Row{"events from ClickHouse", longrun.Count(r.Stored)})
		summary.AppendRow(table.Row{"posts stored without content", longrun.Count(r.Lost)})
	}
	summary.AppendRow(table.Row{"repeated records", longrun.Count(r.Repeats)})
	summary.AppendRow(table.Row{"records of unknown type", longrun.Count(r.Unknown)})
	summary.AppendRow(table.Row{"unreadable records", longrun.Count(r.Bad)})
	summary.AppendRow(table.Row{"elapsed", r.Elapsed.Round(10 * time.Millisecond).String()})

	tables := []table.Writer{summary}
	if len(r.Events) > 0 {
		tables = append(tables, r.eventTable())
	}
	if len(r.Examples) > 0 {
		tables = append(tables, r.exampleTable())
	}
	for _, t := range tables {
		if _, err := fmt.Fprintln(out, t.Render()); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

func (r Report) eventTable() table.Writer {
	t := newTable("event", "in the log", "in analytics", "")
	for _, c := range r.Events {
		stored, verdict := "not asked", ""
		if c.Compared {
			stored, verdict = longrun.Count(c.Stored), "equal"
		}
		if c.Differs {
			verdict = "DIFFERS"
		}
		t.AppendRow(table.Row{c.Type, longrun.Count(c.Log), stored, verdict})
	}
	return t
}

func (r Report) exampleTable() table.Writer {
	t := newTable("user", "difference", "post", "author", "reason")
	t.SetColumnConfigs(nil)
	for _, d := range r.Examples {
		t.AppendRow(table.Row{printable(d.User), string(d.Kind), printable(d.PostID), printable(d.AuthorID), printable(d.Reason)})
	}
	return t
}

// printable quotes what a terminal might obey.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

func newTable(columns ...string) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		header[i] = c
		configs[i] = table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	configs[0].Align, configs[0].AlignHeader = text.AlignLeft, text.AlignLeft
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

// compareCounts holds the table's counts against the log's, which were taken before
// and after. No stored counts means that the table was not asked.
func compareCounts(before, after, stored map[string]int64) []EventCount {
	types := maps.Clone(after)
	maps.Copy(types, stored)
	counts := make([]EventCount, 0, len(types))
	for _, name := range slices.Sorted(maps.Keys(types)) {
		c := EventCount{Type: name, Log: after[name]}
		if stored != nil {
			c.Compared, c.Stored = true, stored[name]
			c.Differs = c.Stored < before[name] || c.Stored > after[name]
		}
		counts = append(counts, c)
	}
	return counts
}

func sum(counts map[string]int64) int64 {
	var n int64
	for _, c := range counts {
		n += c
	}
	return n
}
