package analytics

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Formats of a printed result.
const (
	// FormatTable is for eyes: aligned, cut after 10,000 rows.
	FormatTable = "table"
	// FormatCSV has a line of names first; NULL is an empty field.
	FormatCSV = "csv"
	// FormatJSON is one array of objects. Integers beyond 2^53 are strings, since
	// most readers of JSON would round them: event ids are such.
	FormatJSON = "json"
)

// maxTableRows bounds what a table keeps in memory to align it.
const maxTableRows = 10_000

// field is what a printer has to know of a column.
type field struct {
	name string
	// numeric is aligned right.
	numeric bool
	// layout is how times look.
	layout string
}

func newField(name, chType string) field {
	inner := chType
	for _, wrapper := range []string{"LowCardinality(", "Nullable("} {
		if rest, ok := strings.CutPrefix(inner, wrapper); ok {
			inner = strings.TrimSuffix(rest, ")")
		}
	}
	f := field{name: name, layout: "2006-01-02 15:04:05.999999999"}
	switch {
	case inner == "Date" || inner == "Date32":
		f.layout = time.DateOnly
	case strings.HasPrefix(inner, "DateTime64(") && inner[len("DateTime64(")] != '0':
		f.layout = time.DateTime + "." + strings.Repeat("0", int(inner[len("DateTime64(")]-'0'))
	case strings.HasPrefix(inner, "DateTime"):
		f.layout = time.DateTime
	}
	for _, number := range []string{"UInt", "Int", "Float", "BFloat", "Decimal"} {
		if strings.HasPrefix(inner, number) && !strings.HasPrefix(inner, "Interval") { // IntervalDay is no Int
			f.numeric = true
		}
	}
	return f
}

// printer writes a result: header once, then rows, then end.
type printer interface {
	header(columns []field) error
	row(cells []any) error
	end() error
}

func newPrinter(w io.Writer, format string) (printer, error) {
	switch format {
	case FormatTable, "":
		return &tablePrinter{w: w}, nil
	case FormatCSV:
		return &csvPrinter{w: csv.NewWriter(w)}, nil
	case FormatJSON:
		return &jsonPrinter{w: bufio.NewWriter(w)}, nil
	}
	return nil, fmt.Errorf("analytics: format %q is none of %s, %s, %s", format, FormatTable, FormatCSV, FormatJSON)
}

type tablePrinter struct {
	w       io.Writer
	table   table.Writer
	columns []field
	rows    int
}

func (p *tablePrinter) header(columns []field) error {
	p.columns, p.table = columns, table.NewWriter()
	p.table.SetStyle(table.StyleLight)
	p.table.Style().Format.Header = text.FormatDefault // names as they are, to be used in the next query
	names := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		names[i] = visible(c.name)
		configs[i] = table.ColumnConfig{Number: i + 1}
		if c.numeric {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	p.table.AppendHeader(names)
	p.table.SetColumnConfigs(configs)
	return nil
}

func (p *tablePrinter) row(cells []any) error {
	if p.rows++; p.rows > maxTableRows {
		return nil
	}
	line := make(table.Row, len(cells))
	for i, cell := range cells {
		line[i] = visible(p.columns[i].text(cell, "NULL"))
	}
	p.table.AppendRow(line)
	return nil
}

func (p *tablePrinter) end() error {
	note := fmt.Sprintf("%d rows", p.rows)
	switch {
	case p.rows == 1:
		note = "1 row"
	case p.rows > maxTableRows:
		note = fmt.Sprintf("%d rows, the first %d are shown; csv and json show all", p.rows, maxTableRows)
	}
	_, err := fmt.Fprintf(p.w, "%s\n%s\n", p.table.Render(), note)
	return err
}

type csvPrinter struct {
	w       *csv.Writer
	columns []field
	line    []string
}

func (p *csvPrinter) header(columns []field) error {
	p.columns, p.line = columns, make([]string, len(columns))
	for i, c := range columns {
		p.line[i] = c.name
	}
	return p.w.Write(p.line)
}

func (p *csvPrinter) row(cells []any) error {
	for i, cell := range cells {
		p.line[i] = p.columns[i].text(cell, "")
	}
	return p.w.Write(p.line)
}

func (p *csvPrinter) end() error {
	p.w.Flush()
	return p.w.Error()
}

type jsonPrinter struct {
	w       *bufio.Writer // keeps its first error for Flush
	columns []field
	names   [][]byte
	rows    int
}

func (p *jsonPrinter) header(columns []field) error {
	p.columns = columns
	for _, c := range columns {
		name, err := json.Marshal(c.name)
		if err != nil {
			return err
		}
		p.names = append(p.names, name)
	}
	return p.w.WriteByte('[')
}

func (p *jsonPrinter) row(cells []any) error {
	separator := ",\n"
	if p.rows++; p.rows == 1 {
		separator = "\n"
	}
	_, _ = p.w.WriteString(separator + "{")
	for i, cell := range cells {
		value, err := json.Marshal(p.columns[i].json(cell))
		if err != nil {
			return fmt.Errorf("column %s: %w", p.columns[i].name, err)
		}
		if i > 0 {
			_ = p.w.WriteByte(',')
		}
		_, _ = p.w.Write(p.names[i])
		_ = p.w.WriteByte(':')
		_, _ = p.w.Write(value)
	}
	return p.w.WriteByte('}')
}

func (p *jsonPrinter) end() error {
	if p.rows > 0 {
		_ = p.w.WriteByte('\n')
	}
	_, _ = p.w.WriteString("]\n")
	return p.w.Flush()
}

// value follows the pointers that a scan leaves; nil is NULL.
func value(scanned any) any {
	v := reflect.ValueOf(scanned)
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil
	}
	return v.Interface()
}

// text returns a cell as people read it.
func (f field) text(cell any, null string) string {
	switch v := cell.(type) {
	case nil:
		return null
	case string:
		return v
	case time.Time:
		return f.time(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case big.Int:
		return v.String()
	case fmt.Stringer:
		return v.String()
	}
	v := reflect.ValueOf(cell)
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = f.text(value(v.Index(i).Interface()), "NULL")
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Map, reflect.Struct:
		if compact, err := json.Marshal(f.json(cell)); err == nil {
			return string(compact)
		}
	default:
	}
	return fmt.Sprint(cell)
}

// json returns a cell as something that encoding/json writes without loss.
func (f field) json(cell any) any {
	const exact = 1 << 53 // the largest integer that a double holds with all below it
	switch v := cell.(type) {
	case uint64:
		if v > exact {
			return strconv.FormatUint(v, 10)
		}
	case int64:
		if v > exact || v < -exact {
			return strconv.FormatInt(v, 10)
		}
	case float32:
		return f.json(float64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil // JSON has no such numbers
		}
	case time.Time:
		return f.time(v)
	case big.Int:
		return v.String()
	}
	v := reflect.ValueOf(cell)
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		if _, ok := cell.(fmt.Stringer); ok { // UUID, IP
			break
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = f.json(value(v.Index(i).Interface()))
		}
		return list
	case reflect.Map:
		object := make(map[string]any, v.Len())
		for entries := v.MapRange(); entries.Next(); {
			object[f.text(value(entries.Key().Interface()), "null")] = f.json(value(entries.Value().Interface()))
		}
		return object
	default:
	}
	return cell
}

// time returns a time as ClickHouse writes it, in the zone of its column.
func (f field) time(t time.Time) string {
	return t.Format(f.layout)
}

// visible shows control characters, which could drive a terminal, as escapes.
func visible(s string) string {
	clean := func(r rune) bool {
		return !unicode.IsControl(r) && r != unicode.ReplacementChar && !unicode.Is(unicode.Cf, r)
	}
	var out strings.Builder
	for i, r := range s {
		if clean(r) {
			continue
		}
		out.WriteString(s[:i])
		for _, r := range s[i:] {
			if clean(r) {
				out.WriteRune(r)
			} else {
				out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			}
		}
		return out.String()
	}
	return s
}
