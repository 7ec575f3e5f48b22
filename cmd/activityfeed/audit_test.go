package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"activityfeed/internal/audit"
)

// The last line of an audit names what to do.
func TestVerdict(t *testing.T) {
	t.Parallel()
	const (
		repair  = "run this audit again with --repair"
		rebuild = "'activityfeed rebuild --data-dir DIR'"
		tables  = "'activityfeed rebuild --analytics --data-dir DIR'"
		again   = "run the audit again"
		twice   = "their authors may delete one"
	)
	counts := []audit.EventCount{{Type: "PhotoPosted", Log: 2, Stored: 1, Compared: true, Differs: true}}
	for _, tt := range []struct {
		name   string
		report audit.Report
		want   []string // of the above
	}{
		{"nothing", audit.Report{}, nil},
		{"feeds", audit.Report{Differences: map[audit.Kind]int64{audit.Missing: 1, audit.Healed: 1}}, []string{repair}},
		{"counts", audit.Report{Events: counts}, []string{tables}},
		{"both", audit.Report{Differences: map[audit.Kind]int64{audit.Extra: 1}, Events: counts}, []string{repair, tables}},
		{"healed", audit.Report{Differences: map[audit.Kind]int64{audit.Healed: 1}}, []string{again}},
		{"reposted", audit.Report{Differences: map[audit.Kind]int64{audit.Reposted: 1}}, []string{twice}},
		{"repaired", audit.Report{Differences: map[audit.Kind]int64{audit.Missing: 1}, Repair: &audit.Repair{Users: 1}}, nil},
		{
			"repaired in vain",
			audit.Report{Differences: map[audit.Kind]int64{audit.Missing: 2}, Repair: &audit.Repair{Users: 1, Left: map[audit.Kind]int64{audit.Missing: 1}}},
			[]string{rebuild},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := (&auditCmd{Target: target{DataDir: "DIR"}}).verdict(tt.report)
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("verdict() = %v, want %q", err, tt.want)
			}
			if err == nil {
				return
			}
			if !errors.Is(err, errDrift) || strings.Contains(err.Error(), "\n") {
				t.Errorf("verdict() = %q, want one line of errDrift", err)
			}
			for _, advice := range []string{repair, rebuild, tables, again, twice} {
				wanted := slices.Contains(tt.want, advice)
				if strings.Contains(err.Error(), advice) != wanted {
					t.Errorf("verdict() = %q, want %q in it: %v", err, advice, wanted)
				}
			}
		})
	}
}

// Wrong settings are told once, and the help says what zero means and what codes mean.
func TestWordsOfLoadAndAudit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		want []string // in the help or the error
	}{
		{"load, a wrong setting", []string{"load", "--graph", "audit_test.go", "--workers=-1"}, []string{"workers: -1 is negative"}},
		{"audit, a wrong setting", []string{"audit", "--page-size", "101"}, []string{"page size: 101 is more than 100"}},
		{"load --help", []string{"load", "--help"}, []string{"at once; 0 for 64"}},
		{"audit --help", []string{"audit", "--help"}, []string{
			"0 where nothing differs, 1 where the audit could not be done", "2 where something differs", "healed ", "reposted ", "paging ", "misordered ",
			"Feeds read at once; 0 for 16", "0 for 100",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := parse(t, tt.args, &out)
			text := strings.Join(strings.Fields(out.String()), " ") + " "
			if err != nil {
				text = err.Error()
			}
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, twice := range []string{"load: load:", "audit: audit:"} {
				if strings.Contains(text, twice) {
					t.Errorf("%q in %q", twice, text)
				}
			}
		})
	}
}

// parse reads a command line and runs nothing but its --help.
func parse(t *testing.T, args []string, out io.Writer) error {
	t.Helper()
	helped := errors.New("help ends the process")
	defer func() {
		if end := recover(); end != nil && end != helped { //nolint:errorlint // a panic's value
			panic(end)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Writers(out, out), kong.Exit(func(int) { panic(helped) }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return err
}
