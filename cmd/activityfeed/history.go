package main

import (
	"context"
	"maps"
	"slices"

	"activityfeed/analytics"
	"activityfeed/internal/event"
)

// source is where a tool takes the facts from.
type source string

const (
	fromLog        source = "log"
	fromClickHouse source = "clickhouse"
)

// history is what the log may have forgotten: the events that ClickHouse has.
type history struct {
	// stored is nil where the log has everything.
	stored *analytics.History
}

// open connects to what the source needs beside the log.
func (s source) open(ctx context.Context, flags clickhouseFlags, e endpoints, dataDir string, cfg analytics.Config) (history, error) {
	if s != fromClickHouse {
		return history{}, nil
	}
	cfg, err := flags.writer(e, dataDir, cfg) // the analyst may not read as much at once
	if err != nil {
		return history{}, err
	}
	stored, err := analytics.OpenHistory(ctx, cfg)
	return history{stored}, err
}

func (h history) close() error {
	if h.stored == nil {
		return nil
	}
	return h.stored.Close()
}

// all gives fn every stored event, a partition after the other.
func (h history) all(ctx context.Context, fn func(event.Event, error) error) error {
	partitions, err := h.stored.Partitions(ctx)
	if err != nil {
		return err
	}
	for _, partition := range slices.Sorted(maps.Keys(partitions)) {
		if err := h.stored.All(ctx, partition, fn); err != nil {
			return err
		}
	}
	return nil
}
