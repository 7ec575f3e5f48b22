package embedded

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
)

// settings is what the two configuration files of the engine are made of.
type settings struct {
	Dir               string
	TCPPort, HTTPPort int
	Password          string
	AnalystPassword   string
	Open              bool
	MaxMemory         int64
	Analyst           Limits
	Cluster           string
	Shards            []ClickHouseShard
}

//go:embed clickhouse_config.xml
var configXML string

//go:embed clickhouse_users.xml
var usersXML string

// serveQuery opens the ports: the engine runs in its "local" mode, which can
// listen (ClickHouse PR 101143). HTTP comes last: when it answers, the native port
// is open too. The user "default" runs these two queries, and its quota in
// clickhouse_users.xml allows two.
const serveQuery = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP"

// write puts the configuration files into the directory and returns the command
// line that serves them.
func (s settings) write() ([]string, error) {
	funcs := template.FuncMap{
		"xml":     escapeXML,
		"sha256":  func(p string) string { h := sha256.Sum256([]byte(p)); return hex.EncodeToString(h[:]) },
		"seconds": func(l Limits) int64 { return max(1, int64(l.Time.Seconds())) },
	}
	for name, text := range map[string]string{"config.xml": configXML, "users.xml": usersXML} {
		var b bytes.Buffer
		t, err := template.New(name).Funcs(funcs).Parse(text)
		if err == nil {
			err = t.Execute(&b, s)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(s.Dir, name), b.Bytes(), 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("write clickhouse %s: %w", name, err)
		}
	}
	return []string{
		"--config-file=" + filepath.Join(s.Dir, "config.xml"),
		"--path=" + s.DataDir(),
		"--tcp_port=" + strconv.Itoa(s.TCPPort),
		"--http_port=" + strconv.Itoa(s.HTTPPort),
		"--listen_host=127.0.0.1",
		"--query", serveQuery,
		// It then waits at its prompt, for a user who never types; startOnce gives it
		// a terminal for that. Without a user it would end after the query. A query
		// that sleeps for ever holds it too, but then it takes itself for a script and
		// aborts at the first error that leaves a connection: a wrong password, a
		// client that hangs up (KillingErrorHandler in LocalServer.cpp).
		"--interactive",
		"--disable_suggestion", // else the prompt starts with queries for completions
		"--history_file=/dev/null",
	}, nil
}

// DataDir holds the tables.
func (s settings) DataDir() string { return filepath.Join(s.Dir, "data") }

func escapeXML(s string) (string, error) {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return "", err
	}
	return b.String(), nil
}
