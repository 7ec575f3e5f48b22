package main

import (
	"strings"
	"testing"
)

func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cmd   sqlCmd
		stdin string
		want  string
		err   string
	}{
		{"a query", sqlCmd{SQL: "SELECT 1"}, "", "SELECT 1", ""},
		{"a ready question", sqlCmd{SQL: " feed_freshness "}, "", "SELECT * FROM feed_freshness", ""},
		{"a query on standard input", sqlCmd{}, "SELECT 2", "SELECT 2", ""},
		{"no ready question", sqlCmd{SQL: "nosuch"}, "", "", `no ready question "nosuch"; see 'activityfeed sql --list'`},
		{"a name with a dash", sqlCmd{SQL: "top-authors"}, "", "", `no ready question "top-authors"; see 'activityfeed sql --list'`},
		{"nothing", sqlCmd{}, " \n", "", "no query given: ask a ready question, as in 'activityfeed sql top_authors'"},
		{"both", sqlCmd{SQL: "SELECT 1", File: "x.sql"}, "", "", "not both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.cmd.query(strings.NewReader(tt.stdin))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("query() = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("query() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
