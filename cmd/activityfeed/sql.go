package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

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
		for _, q := range analytics.Questions() {
			if q.Name == strings.TrimSpace(c.SQL) {
				return q.SQL, nil
			}
		}
		return c.SQL, nil
	case c.File != "":
		text, err := os.ReadFile(c.File)
		return string(text), err
	}
	text, err := io.ReadAll(stdin)
	return string(text), err
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
