package main

import (
	"cmp"
	"errors"
	"path/filepath"
	"strings"

	"activityfeed/analytics"
	"activityfeed/internal/embedded"
)

// clickhouseFlags say how a tool reaches the ClickHouse of a running server.
type clickhouseFlags struct {
	Clickhouse         []string `help:"ClickHouse native addresses, if not the data folder's." placeholder:"HOST:PORT"`
	ClickhouseDatabase string   `help:"ClickHouse database, if not the data folder's."`
	ClickhouseUsername string   `help:"ClickHouse user; for the embedded one, the tool's own."`
	ClickhousePassword string   `help:"ClickHouse password. Better given as ACTIVITYFEED_CLICKHOUSE_PASSWORD."`
}

var errNoClickHouse = errors.New("no ClickHouse: give --clickhouse, or the --data-dir of a server that has one ('make engines' fetches the embedded one)")

// reader puts into cfg how to ask questions: of the embedded ClickHouse, as the
// analyst, who can break nothing.
func (f clickhouseFlags) reader(e endpoints, cfg analytics.Config) (analytics.Config, error) {
	cfg.Addr = strings.Join(f.Clickhouse, ",")
	if cfg.Addr == "" {
		cfg.Addr = strings.Join(e.ClickHouse.Addr, ",")
		cfg.Username, cfg.Password = e.ClickHouse.Username, e.ClickHouse.Password
	}
	if cfg.Addr == "" {
		return cfg, errNoClickHouse
	}
	cfg.Database = cmp.Or(f.ClickhouseDatabase, e.ClickHouse.Database)
	if f.ClickhouseUsername != "" || f.ClickhousePassword != "" {
		cfg.Username, cfg.Password = f.ClickhouseUsername, f.ClickhousePassword
	}
	return cfg, nil
}

// writer puts into cfg how to change tables: in the embedded ClickHouse, with the
// password that its owner finds in the data folder.
func (f clickhouseFlags) writer(e endpoints, dataDir string, cfg analytics.Config) (analytics.Config, error) {
	cfg, err := f.reader(e, cfg)
	if err != nil || cfg.Username != embedded.ClickHouseAnalyst {
		return cfg, err
	}
	cfg.Username = embedded.ClickHouseUser
	cfg.Password, err = embedded.ClickHousePassword(filepath.Join(dataDir, "clickhouse"), embedded.ClickHouseUser)
	return cfg, err
}
