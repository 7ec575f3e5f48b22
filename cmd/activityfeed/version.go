package main

import (
	"runtime"
	"runtime/debug"
)

// versionText says what this binary was built from.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "activityfeed, of an unknown version, " + runtime.Version()
	}
	return describeBuild(info)
}

func describeBuild(info *debug.BuildInfo) string {
	text := "activityfeed " + info.Main.Version
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	if revision := setting["vcs.revision"]; revision != "" {
		text += ", revision " + revision
		if setting["vcs.modified"] == "true" {
			text += " with changes"
		}
	}
	return text + ", " + info.GoVersion
}
