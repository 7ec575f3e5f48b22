package testenv_test

import (
	"os"
	"testing"

	"activityfeed/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestClickHouseGivesEachTestItsOwnDatabase(t *testing.T) {
	t.Parallel()
	addrA, dbA := testenv.ClickHouse(t)
	addrB, dbB := testenv.ClickHouse(t)
	if addrA != addrB {
		t.Errorf("two engines: %s and %s, want one shared", addrA, addrB)
	}
	if dbA == dbB {
		t.Errorf("both calls got database %s", dbA)
	}
}

func TestRedisGivesEachTestItsOwnServer(t *testing.T) {
	t.Parallel()
	if a, b := testenv.Redis(t), testenv.Redis(t); a == b {
		t.Errorf("both calls got %s", a)
	}
}

func TestLoggerIsSafeAfterTheTest(t *testing.T) { //nolint:tparallel // it needs the end of the inner one
	t.Parallel()
	var late func()
	t.Run("inner", func(t *testing.T) {
		log := testenv.Logger(t)
		log.Info("in time")
		late = func() { log.Info("too late") }
	})
	late() // t.Log would panic
}

func TestSharedData(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(testenv.SharedData(t, "socfb-Reed98.edges")); err != nil {
		t.Error(err)
	}
}

func TestRedisClusterSurvivesALostMaster(t *testing.T) {
	t.Parallel()
	cluster := testenv.RedisCluster(t, 3, 1)
	client := cluster.Client(t)
	if err := client.Set(t.Context(), "{ann}", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cluster.KillMaster(t, "{ann}")
	cluster.AwaitMaster(t)
	if err := cluster.Client(t).Set(t.Context(), "{ann}", "2", 0).Err(); err != nil {
		t.Errorf("write after the failover: %v", err)
	}
}
