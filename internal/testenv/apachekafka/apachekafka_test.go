package apachekafka_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv/apachekafka"
)

func TestNodeServesAndStops(t *testing.T) {
	t.Parallel()
	jars := os.Getenv(apachekafka.JarsEnv)
	if jars == "" {
		t.Skipf("set %s to the directory of Kafka's jars (make test-kafka does)", apachekafka.JarsEnv)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node, err := apachekafka.Start(ctx, apachekafka.Config{Jars: jars, Dir: t.TempDir()}, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	admin, err := kafka.NewAdmin(node.Brokers())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{"x": {Partitions: 3}}); err != nil {
		t.Fatal(err)
	}
	end, err := admin.EndOffsets(ctx, "x")
	if err != nil || len(end) != 3 {
		t.Fatalf("EndOffsets = %v, %v, want three partitions", end, err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
}
