package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// endpoints tells the tools where a running server and its engines listen. The
// server writes it into its data folder, readable by its owner alone, because
// the embedded ClickHouse's password is in it.
type endpoints struct {
	API        string   `json:"api,omitempty"`
	Ops        string   `json:"ops,omitempty"`
	Kafka      []string `json:"kafka,omitempty"`
	Redis      []string `json:"redis,omitempty"`
	ClickHouse struct {
		Addr     []string `json:"addr,omitempty"`
		Database string   `json:"database,omitempty"`
		Username string   `json:"username,omitempty"`
		Password string   `json:"password,omitempty"`
	} `json:"clickhouse"`
}

func endpointsFile(dataDir string) string { return filepath.Join(dataDir, "endpoints.json") }

// write replaces the file in one step: a tool never reads half of it.
func (e *endpoints) write(dataDir string) error {
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	temporary := endpointsFile(dataDir) + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, endpointsFile(dataDir))
}

// target is how a tool finds the server: by addresses, else by the data folder.
type target struct {
	DataDir string   `default:"activityfeed-data" help:"Data folder of the running server, where the tool finds its addresses." type:"path"`
	API     string   `help:"Address of the gRPC API, if not the data folder's." placeholder:"HOST:PORT"`
	Kafka   []string `help:"Kafka brokers, if not the data folder's." placeholder:"HOST:PORT"`
}

// resolve returns the endpoints of the running server.
func (t target) resolve() (endpoints, error) {
	var e endpoints
	text, err := os.ReadFile(endpointsFile(t.DataDir))
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &e); err != nil {
			return e, fmt.Errorf("%s: %w", endpointsFile(t.DataDir), err)
		}
	case errors.Is(err, fs.ErrNotExist) && t.API != "":
		// Addresses on the command line are enough.
	case errors.Is(err, fs.ErrNotExist):
		return e, fmt.Errorf("no server has run in %s: start one with 'activityfeed serve', or give --data-dir or --api", t.DataDir)
	default:
		return e, err
	}
	if t.API != "" {
		e.API = t.API
	}
	if len(t.Kafka) > 0 {
		e.Kafka = t.Kafka
	}
	return e, nil
}
