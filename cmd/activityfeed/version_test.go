package main

import (
	"bytes"
	"io"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	var c cli
	var out bytes.Buffer
	parser, err := newParser(&c, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	exited := -1
	parser.Exit = func(code int) { exited = code }
	_, _ = parser.Parse([]string{"--version"}) // with Exit replaced it goes on to ask for a command
	if got := out.String(); exited != 0 || !strings.HasPrefix(got, "activityfeed ") || !strings.Contains(got, "go1.") {
		t.Errorf("--version prints %q and exits with %d", got, exited)
	}
}

func TestDescribeBuild(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"of a module", nil, "activityfeed v1.2.3, go1.26.0"},
		{"of a checkout", []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}}, "activityfeed v1.2.3, revision abc, go1.26.0"},
		{"of a checkout with changes", []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}, "activityfeed v1.2.3, revision abc with changes, go1.26.0"},
	} {
		info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}, Settings: tt.settings}
		if got := describeBuild(info); got != tt.want {
			t.Errorf("%s: describeBuild = %q, want %q", tt.name, got, tt.want)
		}
	}
}
