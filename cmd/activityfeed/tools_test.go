package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"activityfeed/internal/testenv"
)

// Every tool of the README, on a server with all roles.
func TestTools(t *testing.T) {
	testenv.Redis(t)      // needs a redis-server, and says so
	testenv.ClickHouse(t) // needs the ClickHouse engine, and says so
	srv := serve(t, func(*serveCmd) {})

	for _, tt := range []struct {
		name string
		args []string
		want string // in the result
		err  string // in the error; empty: none
	}{
		{"load", []string{"load", "--graph", generatedGraph(t, 40), "--posts", "60", "--warm", "1", "--deletes", "0.1"}, "PhotoPosted", ""},
		{"audit", []string{"audit"}, "misordered", ""},
		{"audit for programs", []string{"audit", "--json"}, `"elapsed_seconds":`, ""},
		{"sql table", []string{"sql", "SELECT event_type, events FROM posts_daily"}, "│ PhotoPosted", ""},
		{"sql csv", []string{"sql", "--format=csv", "SELECT sum(posts) FROM top_authors"}, "60", ""},
		{"sql that writes", []string{"sql", "DROP TABLE events"}, "", "only ask"},
		{"no ready question", []string{"sql", "nosuch"}, "", `no ready question "nosuch"; see 'activityfeed sql --list'`},
		{"sql with a fault", []string{"sql", "SELECT event_type FORM events"}, "", "failed at position"},
		{"a ready question", []string{"sql", "top_authors"}, "│ author_id", ""},
		{"the ready questions", []string{"sql", "--list"}, "│ follower_growth", ""},
		{"sql from nowhere", []string{"sql", "--file", "no-such.sql"}, "", "no-such.sql"},
		{"nothing is poison", []string{"poison", "list", "feed"}, "feed: nothing put aside", ""},
		{"poison of nobody", []string{"poison", "list", "nobody"}, "", `must be one of "feed","analytics","notify"`},
		{"an event that is not poison", []string{"poison", "show", "feed", "nosuch"}, "", "no event nosuch among the poison of feed; see 'activityfeed poison list feed'"},
		{"replay names nothing", []string{"poison", "replay", "feed"}, "", "give ids, or --reason, --type, --older, or --all"},
		{"another folder", []string{"audit", "--data-dir", t.TempDir()}, "", "no server is running in"},
	} {
		args := tt.args
		if !slices.Contains(args, "--data-dir") {
			args = append(args, "--data-dir", srv.dir)
		}
		var out, progress bytes.Buffer
		err := run(t.Context(), args, &out, &progress)
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%s: %v\n%s%s", tt.name, err, out.String(), progress.String())
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		case strings.Contains(progress.String(), "│"):
			t.Errorf("%s: results are among the progress:\n%s", tt.name, progress.String())
		case !strings.Contains(out.String(), tt.want):
			t.Errorf("%s printed\n%s\nwant %q in it", tt.name, out.String(), tt.want)
		}
	}
	// What the feed did comes by a topic of its own, a little later.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		var out bytes.Buffer
		err := run(t.Context(), []string{"sql", "--data-dir", srv.dir, "--format=csv", "SELECT 'posts', sum(posts) FROM feed_freshness"}, &out, &out)
		if err == nil && strings.Contains(out.String(), "60") {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("feed_freshness: %v\n%s\nwant 60 posts", err, out.String())
			break
		}
	}
}

func TestDemo(t *testing.T) {
	testenv.Redis(t)
	testenv.ClickHouse(t)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"demo", "--posts", "6"}, &out, &out); err != nil {
		t.Fatalf("demo: %v\n%s", err, out.String())
	}
	for _, want := range []string{"The home feed of ann", "│ PhotoPosted", "The inbox of ann", "Stopped in order"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out.String())
		}
	}
}

func TestParseRoles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		roles []string
		want  roleSet
		err   string
	}{
		{"all", []string{"all"}, roleSet{roleAPI, roleFeed, roleAnalytics, roleNotify}, ""},
		{"all beside another", []string{roleFeed, "all"}, roleSet{roleAPI, roleFeed, roleAnalytics, roleNotify}, ""},
		{"two", []string{roleAPI, roleNotify}, roleSet{roleAPI, roleNotify}, ""},
		{"unknown", []string{"feeds"}, nil, `"feeds" is not one of all, api, feed`},
		{"none", nil, nil, "name at least one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseRoles(tt.roles)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("parseRoles(%q) = %v, want %q", tt.roles, err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("parseRoles(%q) = %v, %v, want %v", tt.roles, got, err, tt.want)
			}
		})
	}
}
