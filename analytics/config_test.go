package analytics

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"activityfeed/internal/testenv"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero Config is not right: %v", err)
	}
	several := Config{Addr: "a:9000, b:9000", Cluster: "main", TTL: time.Hour}
	if err := several.Validate(); err != nil {
		t.Errorf("%+v is not right: %v", several, err)
	}
	wrong := Config{
		Addr: "nowhere", Database: "a b", Cluster: "x'y", TTL: -time.Second, DialTimeout: -1, InsertTimeout: -1,
		SchemaTimeout: -1, CloseTimeout: -1, RetryInitial: -1, RetryMax: -1, QueryTimeout: -1,
		RetryAttempts: -1, MaxAttempts: -1, PoisonLimit: -1, QueryMemory: -1,
	}
	err := wrong.Validate()
	if err == nil {
		t.Fatal("a Config of faults is right")
	}
	for _, field := range []string{
		"clickhouse", "clickhouse-database", "cluster", "ttl", "dial-timeout", "insert-timeout", "schema-timeout", "close-timeout",
		"retry-initial", "retry-max", "query-timeout", "retry-attempts", "max-attempts", "poison-limit", "query-memory",
	} {
		if !strings.Contains(err.Error(), field+":") {
			t.Errorf("Validate does not name %s: %v", field, err)
		}
	}
	if err := (Config{TTL: 1500 * time.Millisecond}).Validate(); err == nil {
		t.Error("a TTL of 1.5 s is right; ClickHouse would see 1 s")
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Database: "a b"}, Deps{})
	if err == nil {
		t.Fatal("New without anything succeeded")
	}
	for _, name := range []string{"clickhouse-database", "Log", "Subscriber", "RetrySubscriber", "Publisher"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("New does not name %s: %v", name, err)
		}
	}
	channel := gochannel.NewGoChannel(gochannel.Config{}, nil)
	if _, err := New(Config{}, Deps{Log: testenv.Logger(t), Subscriber: channel, RetrySubscriber: channel, Publisher: channel}); err != nil {
		t.Errorf("New with all it needs, no metrics, no clock: %v", err)
	}
}
