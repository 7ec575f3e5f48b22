package analytics

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"activityfeed/internal/event"
)

// elsewhere is the partition of events that came in from no partition of the log: from
// the retry topic.
const elsewhere int32 = -1

// History reads the stored events back, in the order of the log: for those who need
// what the log has forgotten.
type History struct {
	cfg  Config
	conn driver.Conn
	// eras are the ids of the logs that there were, in their order.
	eras []string
}

// OpenHistory returns the History of cfg's database, as a user whose questions have
// no limits on rows and time.
func OpenHistory(ctx context.Context, cfg Config) (*History, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	conn, err := open(cfg, cfg.Database)
	if err != nil {
		return nil, err
	}
	h := &History{cfg: cfg, conn: conn}
	if err := h.findEras(ctx); err != nil {
		return nil, errors.Join(explain(err), conn.Close())
	}
	return h, nil
}

// Close closes the connections.
func (h *History) Close() error { return h.conn.Close() }

// findEras looks up which logs there were. Rows from before there were ids of logs
// come first: they are of the first one.
func (h *History) findEras(ctx context.Context) error {
	found, err := h.conn.Query(h.patient(ctx), "SELECT toString(log_id) FROM events GROUP BY log_id ORDER BY log_id != '', min(event_id)")
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return err
		}
		h.eras = append(h.eras, "'"+strings.ReplaceAll(strings.ReplaceAll(id, `\`, `\\`), "'", `\'`)+"'")
	}
	return found.Err()
}

// Partitions returns how many rows there are of each partition of the log, repeats
// included; of the partition -1 are those that came back from poison.
func (h *History) Partitions(ctx context.Context) (map[int32]int64, error) {
	found, err := h.conn.Query(h.patient(ctx),
		"SELECT if(log_topic = $1, log_partition, toInt32($2)) AS partition, toInt64(count()) FROM events GROUP BY partition", event.Topic, elsewhere)
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = found.Close() }()
	counts := make(map[int32]int64)
	for found.Next() {
		var partition int32
		var n int64
		if err := found.Scan(&partition, &n); err != nil {
			return nil, fmt.Errorf("analytics: count rows by partition: %w", err)
		}
		counts[partition] = n
	}
	if err := found.Err(); err != nil {
		return nil, explain(err)
	}
	return counts, nil
}

// Facts gives fn the stored events of a partition, in the order of the log; of a post
// only who posted it and its id. The error of an event says that this version cannot
// read it: event.ErrUnknownType for one that a newer version has stored.
func (h *History) Facts(ctx context.Context, partition int32, fn func(event.Event, error) error) error {
	return h.read(ctx, partition, "'' AS original", "1", func(s stored) error {
		e, err := eventOf(s)
		if errors.Is(err, errNoOriginal) {
			err = nil // nobody asked for it
		}
		return fn(e, err)
	})
}

// Posts gives fn the posts of a partition, as they were accepted, in the order of the
// log. The error says of one that it was stored without what it shows.
func (h *History) Posts(ctx context.Context, partition int32, fn func(event.Event, error) error) error {
	return h.read(ctx, partition, "original", "event_type = 'PhotoPosted'", func(s stored) error { return fn(eventOf(s)) })
}

// All gives fn the stored events of a partition, posts as in Posts; one that was stored
// without what it shows comes with the error, and has an author and an id only.
func (h *History) All(ctx context.Context, partition int32, fn func(event.Event, error) error) error {
	return h.read(ctx, partition, "original", "1", func(s stored) error { return fn(eventOf(s)) })
}

// read gives fn rows of a partition in the order of the log, one of each place.
func (h *History) read(ctx context.Context, partition int32, original, where string, fn func(stored) error) error {
	place, order := fmt.Sprintf("log_topic = '%s' AND log_partition = %d", event.Topic, partition), "log_offset, event_id"
	if partition == elsewhere {
		place, order = fmt.Sprintf("log_topic != '%s'", event.Topic), "event_id"
	}
	for _, era := range h.eras {
		sql := fmt.Sprintf("SELECT event_id, toString(event_type), event_time, author_id, actor_id, target_id, post_id, "+
			"toString(notification_level), toString(source), %s FROM events WHERE %s AND log_id = %s AND %s ORDER BY %s",
			original, place, era, where, order)
		if err := h.each(ctx, sql, fn); err != nil {
			return fmt.Errorf("analytics: read partition %d back: %w", partition, err)
		}
	}
	return nil
}

func (h *History) each(ctx context.Context, sql string, fn func(stored) error) error {
	found, err := h.conn.Query(h.patient(ctx), sql)
	if err != nil {
		return explain(err)
	}
	defer func() { _ = found.Close() }()
	var last uint64
	for found.Next() {
		var s stored
		if err := found.Scan(&s.id, &s.kind, &s.time, &s.author, &s.actor, &s.target, &s.post, &s.level, &s.source, &s.original); err != nil {
			return err
		}
		if s.id == last {
			continue // inserted twice and not merged yet
		}
		last = s.id
		if err := fn(s); err != nil {
			return err
		}
	}
	return found.Err()
}

// patient is for questions about all rows: sorting takes disk, not memory, and the
// time that it takes.
func (h *History) patient(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"max_bytes_before_external_sort": h.cfg.QueryMemory << 19, // half of it
		"max_execution_time":             0, "max_rows_to_read": 0, "max_result_rows": 0,
	}))
}
