package analytics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Reader answers questions in SQL and writes nothing. It needs no running sink.
type Reader struct {
	cfg  Config
	conn driver.Conn
}

// OpenReader returns a Reader on cfg's database. It does not connect: a
// ClickHouse that is away shows at the first Query.
func OpenReader(cfg Config) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	conn, err := open(cfg, cfg.Database)
	if err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, conn: conn}, nil
}

// Close closes the connections.
func (r *Reader) Close() error { return r.conn.Close() }

// Query runs one statement and prints its result to w: FormatTable, FormatCSV or
// FormatJSON. The server runs it read-only and refuses whatever writes. Tables
// are read as if everything were merged (FINAL), so plain counts are exact too,
// and the query is bounded by Config.QueryTimeout, QueryMemory and QueryRows. Where
// the user's profile is read-only already, that profile has to say all this.
func (r *Reader) Query(ctx context.Context, w io.Writer, sql, format string) (err error) {
	sql = strings.TrimRight(sql, "; \t\r\n")
	if strings.TrimSpace(sql) == "" {
		return errors.New("analytics: no query given")
	}
	out, err := newPrinter(w, format)
	if err != nil {
		return err
	}
	ctx, done := r.bounded(ctx)
	defer done()
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = fmt.Errorf("analytics: %w", cause)
		}
	}()

	settings, err := r.settings(ctx)
	if err != nil {
		return explain(err)
	}
	found, err := r.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), sql)
	if err != nil {
		return explain(err)
	}
	defer func() { _ = found.Close() }()
	if err := show(found, out); err != nil {
		return explain(err)
	}
	return nil
}

// bounded returns a context that ends with ctx, and after QueryTimeout, but has no
// deadline: with one the driver sends a setting, which a user who is read-only by
// profile may not do.
func (r *Reader) bounded(ctx context.Context) (context.Context, func()) {
	bounded, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	timer := time.AfterFunc(r.cfg.QueryTimeout, func() {
		cancel(fmt.Errorf("the query took longer than %v", r.cfg.QueryTimeout))
	})
	unlink := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return bounded, func() { timer.Stop(); unlink(); cancel(nil) }
}

// settings asks the server how free we are. A user who is read-only by profile
// may not send settings, and has the limits of that profile.
func (r *Reader) settings(ctx context.Context) (clickhouse.Settings, error) {
	// UInt64, or whatever the version in use calls it.
	var readonly string
	if err := r.conn.QueryRow(ctx, "SELECT toString(getSetting('readonly'))").Scan(&readonly); err != nil {
		return nil, err
	}
	settings := clickhouse.Settings{
		"final":              1,
		"max_execution_time": int(max(1, r.cfg.QueryTimeout/time.Second)),
		"max_memory_usage":   r.cfg.QueryMemory << 20,
		"max_result_rows":    r.cfg.QueryRows,
	}
	switch readonly {
	case "0":
		settings["readonly"] = 1
	case "1":
		return clickhouse.Settings{}, nil
	}
	return settings, nil
}

// explain says in plain words what people meet most.
func explain(err error) error {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return fmt.Errorf("analytics: query: %w", err)
	}
	return fmt.Errorf("analytics: %s: %w", meaning(exception), plainError{err, plain(exception.Message)})
}

// meaning is what an error of ClickHouse means to who has asked.
func meaning(exception *clickhouse.Exception) string {
	switch exception.Code {
	case 164:
		if strings.Contains(exception.Message, "setting") {
			return "settings are fixed here, leave out SETTINGS"
		}
		return "only questions are answered here; this statement writes"
	case 396:
		return "the answer has too many rows; add LIMIT, or count instead"
	case 158, 307:
		return "too much would have to be read for one question; ask for fewer days or one event_type"
	case 159:
		return "the question takes longer than one may"
	case 241:
		return "the question needs more memory than one may use"
	case 497:
		return "this user may not do that, only ask"
	case 81:
		return "the database is not there yet; run the analytics role once"
	}
	return "query"
}

// plain leaves out of ClickHouse's words what only its makers need: after a syntax error,
// everything that could have stood there instead.
func plain(message string) string {
	message, _, _ = strings.Cut(message, " Expected one of")
	message = strings.TrimPrefix(message, "DB::Exception: ")
	return strings.TrimRight(message, ". ")
}

// plainError is an error in fewer words.
type plainError struct {
	error

	words string
}

func (e plainError) Error() string { return e.words }

func (e plainError) Unwrap() error { return e.error }

// show moves the rows of a result to a printer.
func show(found driver.Rows, out printer) error {
	types := found.ColumnTypes()
	columns := make([]field, len(types))
	for i, t := range types {
		columns[i] = newField(t.Name(), t.DatabaseTypeName())
	}
	if err := out.header(columns); err != nil {
		return err
	}
	targets := make([]any, len(types))
	cells := make([]any, len(types))
	for found.Next() {
		for i, t := range types {
			targets[i] = reflect.New(t.ScanType()).Interface()
		}
		if err := found.Scan(targets...); err != nil {
			return err
		}
		for i, target := range targets {
			cells[i] = value(target)
		}
		if err := out.row(cells); err != nil {
			return err
		}
	}
	if err := found.Err(); err != nil {
		return err
	}
	return out.end()
}
