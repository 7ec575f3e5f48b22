package main

import (
	"fmt"
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
