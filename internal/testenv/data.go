package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

// SharedData is the path of a data file that is not part of the repository: in
// ACTIVITYFEED_SHARED_DATA, or in shared/data beside the repository.
func SharedData(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("ACTIVITYFEED_SHARED_DATA")
	if dir == "" {
		dir = filepath.Join(Root(t), "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil { //nolint:gosec // the tester names the folder
		need(t, name, "put it into "+dir+", or name its folder in ACTIVITYFEED_SHARED_DATA")
	}
	return path
}

// Root is the root of the module: the nearest folder above with a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("find the module root: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("find the module root: no go.mod above the working directory")
		}
		dir = parent
	}
}
