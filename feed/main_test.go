package feed

import (
	"os"
	"testing"

	"activityfeed/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
