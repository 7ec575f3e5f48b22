package analytics

import (
	"context"
	"fmt"
)

// CountByType returns how many distinct events the table holds of each type
// ("PhotoPosted"), whatever was inserted twice: the figure that an audit holds
// against the log. Bounded as Query is.
func (r *Reader) CountByType(ctx context.Context) (map[string]int64, error) {
	ctx, done := r.bounded(ctx)
	defer done()
	rows, err := r.conn.Query(ctx, "SELECT toString(event_type), toInt64(uniqExact(event_id)) FROM events GROUP BY event_type")
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = rows.Close() }()
	counts := make(map[string]int64)
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, fmt.Errorf("analytics: count events: %w", err)
		}
		counts[name] = n
	}
	if err := rows.Err(); err != nil {
		return nil, explain(err)
	}
	return counts, nil
}
