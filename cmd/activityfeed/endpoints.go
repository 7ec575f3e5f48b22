package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// endpoints tells the tools where a running server and its engines listen. The
// server writes it into its data folder, readable by its owner alone, because
// the embedded ClickHouse's password is in it.
type endpoints struct {
	// PID is the server that wrote this; for people.
	PID int    `json:"pid,omitempty"`
	API string `json:"api,omitempty"`
	// APICert is the certificate that the API shows, in PEM; empty where it speaks
	// plaintext. It is kept here, not by the name of its file, which may be renewed.
	APICert    string   `json:"api_cert,omitempty"`
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

// publish replaces the file in one step: a tool never reads half of it. The file is
// locked for as long as this process lives, so that a tool can tell it from what a
// killed server has left; process ids are used again, and differ between containers.
// The returned function takes the file away at the end.
func (e endpoints) publish(dataDir string) (withdraw func() error, err error) {
	e.PID = os.Getpid()
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, err
	}
	path := endpointsFile(dataDir)
	temporary, err := os.CreateTemp(dataDir, "endpoints-*.new") // 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temporary.Close(), os.Remove(temporary.Name()))
		}
	}()
	if _, err := temporary.Write(text); err != nil {
		return nil, err
	}
	// Where a file system has no locks, the tools take every file for a running server's.
	if err := syscall.Flock(int(temporary.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("lock %s: %w", temporary.Name(), err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return nil, err
	}
	return func() error { return withdrawFile(temporary, path) }, nil
}

// withdrawFile removes what lies at path if it is still file, which it closes: another
// server may have been started on the folder meanwhile.
func withdrawFile(file *os.File, path string) error {
	ours, err := file.Stat()
	if err == nil {
		if there, gone := os.Stat(path); gone == nil && os.SameFile(ours, there) {
			err = os.Remove(path)
		}
	}
	return errors.Join(err, file.Close())
}

// readEndpoints returns what the last server on the folder has written, and whether it
// is still running.
func readEndpoints(dataDir string) (e endpoints, running bool, err error) {
	file, err := os.Open(endpointsFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	defer func() { _ = file.Close() }() // it was only read
	if err := json.NewDecoder(file).Decode(&e); err != nil {
		return e, false, fmt.Errorf("%s: %w", file.Name(), err)
	}
	// Shared, so that two tools that look at once do not take each other for the server.
	return e, syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil, nil
}

// noServerError says that nothing runs on a data folder.
type noServerError struct {
	dir string
	// last is the process that ran there, 0 if nobody knows.
	last int
}

func (e noServerError) Error() string {
	last := ""
	if e.last != 0 {
		last = fmt.Sprintf(" (the last one had pid %d)", e.last)
	}
	return fmt.Sprintf("no server is running in %s%s: start it with 'activityfeed serve --data-dir %[1]s', or give the --data-dir or the addresses of another", e.dir, last)
}

// target is how a tool finds the server: by addresses, else by the data folder.
type target struct {
	DataDir string   `default:"activityfeed-data" help:"Data folder of the running server, where the tool finds its addresses." type:"path"`
	API     string   `help:"Address of the gRPC API, if not the data folder's." placeholder:"HOST:PORT"`
	Kafka   []string `help:"Kafka brokers, if not the data folder's." placeholder:"HOST:PORT"`

	APITLS        bool   `name:"api-tls" help:"Speak TLS to --api. --api-ca-file implies it, and so does the data folder of a server that speaks it."`
	APICAFile     string `name:"api-ca-file" help:"PEM certificates that the API's is checked against, if not the system's or the one that the data folder has." placeholder:"FILE" type:"existingfile"`
	APIServerName string `name:"api-server-name" help:"Name in the API's certificate, if not the host of --api or what the data folder has." placeholder:"HOST"`
}

// resolve returns the endpoints of the running server. What a server has left that does
// not run any more is of no use: its ports are free, or others'.
func (t target) resolve() (endpoints, error) {
	e, running, err := readEndpoints(t.DataDir)
	if err != nil {
		return e, err
	}
	if !running {
		last := e.PID
		e = endpoints{}
		if t.API == "" && len(t.Kafka) == 0 { // else addresses on the command line may be enough
			return e, noServerError{dir: t.DataDir, last: last}
		}
	}
	if t.API != "" && t.API != e.API {
		e.API, e.APICert = t.API, ""
	}
	if len(t.Kafka) > 0 {
		e.Kafka = t.Kafka
	}
	return e, nil
}
