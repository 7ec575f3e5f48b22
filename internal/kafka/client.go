package kafka

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const defaultClientID = "activityfeed"

var (
	errNoBrokers = errors.New("kafka: no brokers given")
	errClosed    = errors.New("kafka: closed")
)

// clientLog passes the client's own warnings on.
type clientLog struct{ log *slog.Logger }

// Level returns what is worth having from the client: its warnings.
func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log writes one line of the client.
func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelWarn
	if level == kgo.LogLevelError {
		to = slog.LevelError
	}
	l.log.Log(context.Background(), to, "kafka client: "+msg, keyvals...)
}

// baseOptions are the options that every client of this package has.
func baseOptions(brokers []string, clientID string, log *slog.Logger) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(brokers...),
		kgo.ClientID(clientID),
		kgo.WithLogger(clientLog{log}),
		kgo.DisableClientMetrics(),
		// After a failure the client asks where things are before it tries again, at
		// this interval at the least: the client's 5 s make each blip one of 5 s.
		kgo.MetadataMinAge(500 * time.Millisecond),
		// One fetch at a time is under way to a broker, and a partition that becomes
		// readable meanwhile (others had a committed offset, its own had to be looked
		// up) waits for the end of that fetch: the client's 5 s are too long.
		kgo.FetchMaxWait(500 * time.Millisecond),
	}
}
