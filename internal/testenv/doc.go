// Package testenv gives tests the real engines, a logger, and the shared data, or
// skips them with the reason. With CI=true in the environment a skip is a
// failure: there everything has to be present.
//
// A package whose tests call [ClickHouse] or [SharedRedisCluster] has
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// Everything handed out ends with the test, or with the test process.
package testenv

import (
	"os"
	"testing"
)

// need ends a test that lacks something: what says which, do says how to get it.
// This is the one place that decides between skip and failure.
func need(t testing.TB, what, do string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s: %s (a skip is a failure where CI=true)", what, do)
	}
	t.Skipf("needs %s: %s", what, do)
}
