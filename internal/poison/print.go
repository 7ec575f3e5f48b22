package poison

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"google.golang.org/protobuf/encoding/protojson"

	"activityfeed/internal/event"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
)

const (
	// columnWidth keeps a list readable on a terminal of 160 columns.
	columnWidth = 48
	// dumpLimit is how many bytes of an undecodable payload are shown.
	dumpLimit = 4096
)

// PrintList writes the entries of a service as a table.
func PrintList(w io.Writer, service string, entries []Entry) {
	if len(entries) == 0 {
		fmt.Fprintf(w, "%s: nothing put aside\n", service)
		return
	}
	t := newTable(w)
	t.AppendHeader(table.Row{"id", "type", "reason", "error", "origin", "attempts", "first failure", "replays"})
	t.SetColumnConfigs([]table.ColumnConfig{
		{Name: "error", WidthMax: columnWidth, WidthMaxEnforcer: text.Trim},
		{Name: "attempts", Align: text.AlignRight},
		{Name: "replays", Align: text.AlignRight},
	})
	for _, e := range entries {
		t.AppendRow(table.Row{
			e.ID, clean(e.Type()), clean(e.Reason), clean(e.Error), clean(e.Origin.String()),
			e.Origin.Attempt, moment(e.FirstFailure), e.Replays,
		})
	}
	t.Render()
}

// PrintEntry writes all that is known of one letter: what happened, the headers,
// and the event as JSON, or the payload's bytes if it is no event of ours.
func PrintEntry(w io.Writer, e Entry) error {
	t := newTable(w)
	t.AppendRows([]table.Row{
		{"id", e.ID},
		{"service", clean(e.Service)},
		{"reason", clean(e.Reason)},
		{"error", clean(e.Error)},
		{"origin", clean(e.Origin.String())},
		{"written", moment(e.Origin.Time)},
		{"first failure", moment(e.FirstFailure)},
		{"attempts", e.Origin.Attempt},
		{"replays", e.Replays},
	})
	if key, ok := e.Original.Metadata[record.KeyMetadata]; ok {
		t.AppendRow(table.Row{"partition key", strconv.Quote(key)})
	}
	if e.Original.UUID != "" {
		t.AppendRow(table.Row{record.IDHeader, clean(e.Original.UUID)})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Original.Metadata)) {
		if name != record.KeyMetadata {
			t.AppendRow(table.Row{clean(name), clean(e.Original.Metadata[name])})
		}
	}
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, WidthMax: 120}})
	t.Render()
	return printPayload(w, e)
}

func printPayload(w io.Writer, e Entry) error {
	decoded, err := event.Decode(e.Original)
	if err == nil {
		// protojson varies its white space from build to build; Indent does not.
		raw, err := protojson.Marshal(decoded.Data)
		if err != nil {
			return fmt.Errorf("show %s: %w", e.ID, err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, raw, "", "  "); err != nil {
			return fmt.Errorf("show %s: %w", e.ID, err)
		}
		for line := range strings.Lines(pretty.String()) {
			fmt.Fprintln(w, clean(strings.TrimSuffix(line, "\n")))
		}
		return nil
	}
	payload := e.Original.Payload
	fmt.Fprintf(w, "payload of %d bytes, not an event of this version: %s\n", len(payload), clean(err.Error()))
	shown := payload[:min(len(payload), dumpLimit)]
	if _, err := io.WriteString(w, hex.Dump(shown)); err != nil {
		return err
	}
	if rest := len(payload) - len(shown); rest > 0 {
		fmt.Fprintf(w, "... and %d bytes more\n", rest)
	}
	return nil
}

// PrintResult writes what verb ("replayed", "dropped") was done to.
func PrintResult(w io.Writer, verb string, r Result) {
	if len(r.Done)+len(r.Refused) == 0 {
		printOthers(w, r)
		return
	}
	if r.DryRun {
		PrintList(w, r.Service, r.Done)
		fmt.Fprintf(w, "dry run: %d would be %s\n", len(r.Done), verb)
	} else {
		fmt.Fprintf(w, "%d %s\n", len(r.Done), verb)
	}
	if len(r.Refused) > 0 {
		fmt.Fprintf(w, "%d refused: replayed too often. Find out why they fail, then drop them or raise the limit:\n", len(r.Refused))
		PrintList(w, r.Service, r.Refused)
	}
}

// printOthers says what there is where nothing was chosen: a reason or type may be
// mistyped.
func printOthers(w io.Writer, r Result) {
	if len(r.Others) == 0 {
		PrintList(w, r.Service, nil)
		return
	}
	fmt.Fprintf(w, "%s: nothing matches. Put aside are, by reason: %s; by type: %s\n",
		r.Service, tally(r.Others, func(e Entry) string { return e.Reason }), tally(r.Others, Entry.Type))
}

// tally counts the entries by what name says: "2 panic, 1 undecodable".
func tally(entries []Entry, name func(Entry) string) string {
	counts := map[string]int{}
	for _, e := range entries {
		counts[cmp.Or(clean(name(e)), "unknown")]++
	}
	parts := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}

func newTable(w io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	return t
}

// clean makes what others wrote safe for a terminal.
func clean(s string) string { return middleware.Clean(s, math.MaxInt) }

func moment(at time.Time) string {
	if at.IsZero() {
		return "unknown"
	}
	return at.UTC().Format("2006-01-02 15:04:05.000Z")
}
