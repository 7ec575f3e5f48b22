package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"activityfeed/analytics"
)

// sqlCmd asks ClickHouse a question.
type sqlCmd struct {
	Target     target          `embed:""`
	ClickHouse clickhouseFlags `embed:""`
	Format     string          `default:"table" enum:"table,csv,json" help:"How the answer looks: table, csv or json."`
	List       bool            `help:"List the ready questions instead, one line each."`
	File       string          `help:"Read the query from a file." type:"existingfile"`
	SQL        string          `arg:"" optional:"" help:"The query, or the name of a ready question (see --list); standard input if it is left out."`
}

// Run prints the answer.
func (c *sqlCmd) Run(ctx context.Context, con *console) error {
	if c.List {
		listQuestions(con)
		return nil
	}
	query, err := c.query(os.Stdin)
	if err != nil {
		return err
	}
	e, err := c.Target.resolve()
	if err != nil && len(c.ClickHouse.Clickhouse) == 0 {
		return err
	}
	cfg, err := c.ClickHouse.reader(e, analytics.Config{})
	if err != nil {
		return err
	}
	reader, err := analytics.OpenReader(cfg)
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Query(ctx, con.out, query, c.Format)
}

// query returns what is asked: the argument, the file or standard input.
func (c *sqlCmd) query(stdin io.Reader) (string, error) {
	switch {
	case c.SQL != "" && c.File != "":
		return "", errors.New("give the query or --file, not both")
	case c.SQL != "":
		return readyOrGiven(c.SQL)
	case c.File != "":
		text, err := os.ReadFile(c.File)
		return string(text), err
	}
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return "", errNoQuery // waiting for what people do not know that they may type helps nobody
	}
	text, err := io.ReadAll(stdin)
	if err == nil && strings.TrimSpace(string(text)) == "" {
		err = errNoQuery
	}
	return string(text), err
}

var errNoQuery = errors.New(`no query given: ask a ready question, as in 'activityfeed sql top_authors' ('activityfeed sql --list' names all), or your own: activityfeed sql "SELECT event_type, count() FROM events GROUP BY 1"`)

// readyOrGiven returns the query behind a ready question's name, else the query itself.
// A single word is no query: it was meant as a name.
func readyOrGiven(asked string) (string, error) {
	asked = strings.TrimSpace(asked)
	for _, q := range analytics.Questions() {
		if q.Name == asked {
			return q.SQL, nil
		}
	}
	if asked != "" && !strings.ContainsFunc(asked, func(r rune) bool { return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		return "", fmt.Errorf("no ready question %q; see 'activityfeed sql --list'", asked)
	}
	return asked, nil
}

func listQuestions(con *console) {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"question", "what it answers"})
	for _, q := range analytics.Questions() {
		t.AppendRow(table.Row{q.Name, q.About})
	}
	con.printTable(t)
	fmt.Fprintln(con.out, `Ask one: activityfeed sql NAME. Each is a view: activityfeed sql "SELECT * FROM NAME WHERE ..."`)
}
