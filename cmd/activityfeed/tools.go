package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"activityfeed/analytics"
)

// dial connects to the API of a running server.
func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

// printTable writes a table in the one style of all commands.
func (c *console) printTable(t table.Writer) {
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header, t.Style().Format.Footer = text.FormatDefault, text.FormatDefault
	fmt.Fprintln(c.out, t.Render())
	fmt.Fprintln(c.out)
}

// analyticsConfig is how a tool reaches the ClickHouse of a running server.
func analyticsConfig(e endpoints) analytics.Config {
	return analytics.Config{
		Addr: strings.Join(e.ClickHouse.Addr, ","), Database: e.ClickHouse.Database,
		Username: e.ClickHouse.Username, Password: e.ClickHouse.Password,
	}
}

// sqlCmd asks ClickHouse a question.
type sqlCmd struct {
	Target target `embed:""`
	Format string `default:"table" enum:"table,csv,json" help:"How the answer looks: table, csv or json."`
	SQL    string `arg:"" optional:"" help:"The query; standard input if it is left out."`
}

// Run prints the answer.
func (c *sqlCmd) Run(ctx context.Context, con *console) error {
	e, err := c.Target.resolve()
	if err != nil {
		return err
	}
	if len(e.ClickHouse.Addr) == 0 {
		return fmt.Errorf("the server in %s runs without ClickHouse: 'make engines' fetches the embedded one", c.Target.DataDir)
	}
	query := c.SQL
	if query == "" {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		query = string(text)
	}
	reader, err := analytics.OpenReader(analyticsConfig(e))
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Query(ctx, con.out, query, c.Format)
}
