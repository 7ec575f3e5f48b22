package analytics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

func TestBlameOf(t *testing.T) {
	t.Parallel()
	server := func(code int32) error { return &clickhouse.Exception{Code: code, Message: "from the server"} }
	for _, tt := range []struct {
		name string
		err  error
		want blame
	}{
		{"too many parts", server(252), blameEngine},
		{"memory", server(241), blameEngine},
		{"too many queries", server(202), blameEngine},
		{"no space", server(243), blameEngine},
		{"timeout", server(159), blameEngine},
		{"socket timeout", server(209), blameEngine},
		{"network", server(210), blameEngine},
		{"read only", server(242), blameEngine},
		{"table is gone", server(60), blameEngine},
		{"wrong password", server(516), blameEngine},
		{"parse", server(27), blameData},
		{"type", server(53), blameData},
		{"constraint", server(469), blameData},
		{"wrapped", fmt.Errorf("send: %w", server(469)), blameData},
		{"no list has it", server(49), blameUnknown},
		{"driver: operation", &clickhouse.OpError{Op: "unexpected packet", Err: io.EOF}, blameEngine},
		{"driver: column", &column.Error{ColumnType: "UInt8", Err: io.EOF}, blameData},
		{"driver: conversion", &column.ColumnConverterError{Op: "Append", From: "string", To: "UInt8"}, blameData},
		{"driver: invalid batch", clickhouse.ErrBatchInvalid, blameData},
		{"driver: no connection free", clickhouse.ErrAcquireConnTimeout, blameEngine},
		{"refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, blameEngine},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, blameEngine},
		{"cut", io.ErrUnexpectedEOF, blameEngine},
		{"deadline", context.DeadlineExceeded, blameEngine},
		{"stop", context.Canceled, blameEngine},
		{"anything", errors.New("what is this"), blameEngine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := blameOf(tt.err); got != tt.want {
				t.Errorf("blameOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
}

// The names in the tables are what people read; the numbers decide. The engine
// itself says whether they belong together.
func TestCodesAreThoseOfTheEngine(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, codes := range []map[int32]string{dataCodes, engineCodes} {
		for _, code := range slices.Sorted(maps.Keys(codes)) {
			got := table.lines(fmt.Sprintf("SELECT errorCodeToName(toInt32(%d))", code))
			if want := []string{codes[code]}; !slices.Equal(got, want) {
				t.Errorf("code %d is %v, want %v", code, got, want)
			}
		}
	}
	for code := range dataCodes {
		if name, both := engineCodes[code]; both {
			t.Errorf("code %d (%s) is in both lists", code, name)
		}
	}
}
