package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
)

// newRedis returns a client with the options that the server sets.
func newRedis(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true})
}

// checkEmpty refuses to write into engines that somebody uses.
func checkEmpty(ctx context.Context, brokers []string, client *redis.Client) error {
	n, err := client.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask redis %s: %w", client.Options().Addr, err)
	}
	if n > 0 {
		return fmt.Errorf("redis %s holds %d keys: give an empty one", client.Options().Addr, n)
	}
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.EnsureTopics(ctx, map[string]kafka.TopicConfig{event.Topic: {Partitions: 8}}); err != nil {
		return err
	}
	ends, err := admin.EndOffsets(ctx, event.Topic)
	if err != nil {
		return err
	}
	for _, end := range ends {
		if end > 0 {
			return fmt.Errorf("topic %s has records: give an empty log", event.Topic)
		}
	}
	return nil
}

// userName is a user's id in the form of redis-benchmark's __rand_int__.
func userName(n int) string { return fmt.Sprintf("%012d", n) }

// idSource makes ids of this moment.
func idSource() (*event.IDs, error) { return event.NewIDs(1023, time.Now) }
