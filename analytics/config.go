package analytics

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Service is the name of this consumer: its group, and the prefix of its poison
// and retry topics.
const Service = "analytics"

// Config says where ClickHouse is and how patient we are with it. The zero value
// is usable: see the defaults.
type Config struct {
	// Where ClickHouse is has flags of its own in cmd/activityfeed, which knows of
	// the embedded one too.

	// Addr is host:port of the native protocol, several separated by commas.
	// Zero: 127.0.0.1:9000.
	Addr string `kong:"-"`
	// Database is created if it is missing. Letters, digits and _. Zero: activityfeed.
	Database string `kong:"-"`
	// Username of the writer. Zero: default.
	Username string `kong:"-"`
	// Password of Username. Zero: none. Never logged.
	Password string `kong:"-"`
	// Secure speaks TLS, checked against the system's roots. Zero: plain TCP.
	Secure bool `help:"Speak TLS with ClickHouse."`
	// Cluster names a ClickHouse cluster: tables become replicated and
	// distributed over it. Zero: one server, plain tables. It binds when a table
	// is created and is not changed later.
	Cluster string `help:"ClickHouse cluster to spread the tables over; empty means one server."`
	// Unreplicated keeps each shard of the cluster on one server: for a cluster without
	// ClickHouse Keeper or ZooKeeper. The tables are made on every address of Addr, so
	// all servers must be named there. Zero: replicated tables, made ON CLUSTER.
	Unreplicated bool `help:"The cluster has no Keeper: one copy of each shard, and tables made on each of the addresses given."`
	// TTL is how long an event is kept after its time, to the second. Zero: forever.
	TTL time.Duration `default:"0s" help:"How long events are kept in ClickHouse; 0 means forever."`

	// OmitPosts keeps what people wrote and showed out of ClickHouse: captions and
	// addresses of pictures. Zero: each post is kept as the log has it, beside its
	// columns, and feeds can be made anew from it when the log is gone.
	OmitPosts bool `help:"Do not keep captions and media of posts in ClickHouse; feeds cannot be rebuilt from it then."`

	// DialTimeout bounds connecting, and waiting for a free connection. Zero: 5s.
	DialTimeout time.Duration `default:"5s" help:"How long to wait for a connection to ClickHouse."`
	// Gather is the span of the clock in which small batches share one insert into a
	// table. Zero: 1s. Negative: each has its own.
	Gather time.Duration `default:"1s" help:"Span of the clock in which small batches share one insert; negative means that each has its own."`
	// InsertTimeout bounds one insert. Keep it below the subscriber's drain, so
	// that a stop does not cut inserts off. Zero: 8s.
	InsertTimeout time.Duration `default:"8s" help:"How long one insert may take."`
	// SchemaTimeout bounds one statement of the schema. Zero: 60s.
	SchemaTimeout time.Duration `default:"60s" help:"How long one statement of the schema may take."`
	// CloseTimeout bounds the stop; it must be longer than the subscriber's
	// drain. Zero: 30s.
	CloseTimeout time.Duration `default:"30s" help:"How long a stop may take before running inserts are abandoned."`

	// RetryAttempts is how often an insert is tried before the batch goes back to
	// the log's lane, which waits longer. Zero: 3.
	RetryAttempts int `default:"3" help:"Tries of an insert before its batch waits in the log."`
	// RetryInitial is the wait after the first failure; it doubles. Zero: 100ms.
	RetryInitial time.Duration `default:"100ms" help:"Wait after the first failed insert."`
	// RetryMax is the longest wait between tries. Zero: 2s.
	RetryMax time.Duration `default:"2s" help:"Longest wait between tries of an insert."`
	// MaxAttempts is after how many deliveries of a batch an error that nobody
	// knows is held against single rows instead of the engine. Zero: 8.
	MaxAttempts int `default:"8" help:"Deliveries of a batch before an unknown error is searched for in single rows."`

	// PoisonLimit is how many records more than good ones may go to poison before
	// this service takes itself for broken and waits instead. Zero: 1000.
	PoisonLimit int `default:"1000" help:"Undecodable records, beyond the good ones, before the service waits instead of poisoning on."`

	// QueryTimeout bounds one question of a Reader. Zero: 60s.
	QueryTimeout time.Duration `default:"60s" help:"How long one query may take."`
	// QueryMemory bounds the server's memory for one question, in MiB. Zero: 1024.
	QueryMemory int `default:"1024" help:"Memory that the server may use for one query, in MiB."`
	// QueryRows bounds the rows of an answer. Zero: 100,000.
	QueryRows int `default:"100000" help:"Rows that an answer may have."`
}

// identifier is what may stand in SQL as a name: nothing that needs escaping.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// withDefaults returns c with every zero field that has a default filled.
func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:9000")
	c.Database = cmp.Or(c.Database, "activityfeed")
	c.Username = cmp.Or(c.Username, "default")
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.Gather = cmp.Or(c.Gather, time.Second)
	c.InsertTimeout = cmp.Or(c.InsertTimeout, 8*time.Second)
	c.SchemaTimeout = cmp.Or(c.SchemaTimeout, time.Minute)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 30*time.Second)
	c.RetryAttempts = cmp.Or(c.RetryAttempts, 3)
	c.RetryInitial = cmp.Or(c.RetryInitial, 100*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 2*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 8)
	c.PoisonLimit = cmp.Or(c.PoisonLimit, 1000)
	c.QueryTimeout = cmp.Or(c.QueryTimeout, time.Minute)
	c.QueryMemory = cmp.Or(c.QueryMemory, 1024)
	c.QueryRows = cmp.Or(c.QueryRows, 100_000)
	return c
}

// Validate reports every fault of c in one error; settings have the names of their
// flags. Zero fields are right: they mean their defaults.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("analytics: "+format, args...))
	}
	for _, addr := range c.addrs() {
		if !strings.Contains(addr, ":") {
			faults = append(faults, fmt.Errorf("clickhouse: %q is not host:port", addr))
		}
	}
	if !identifier.MatchString(c.Database) {
		faults = append(faults, fmt.Errorf("clickhouse-database: %q is not a name of letters, digits and _", c.Database))
	}
	if c.Cluster != "" && !identifier.MatchString(c.Cluster) {
		fault("cluster: %q is not a name of letters, digits and _", c.Cluster)
	}
	if c.Unreplicated && c.Cluster == "" {
		fault("unreplicated: says something of a cluster, and cluster names none")
	}
	if c.TTL < 0 || c.TTL%time.Second != 0 {
		fault("ttl: %v is not a whole number of seconds, or 0 for ever", c.TTL)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"dial-timeout", c.DialTimeout},
		{"insert-timeout", c.InsertTimeout},
		{"schema-timeout", c.SchemaTimeout},
		{"close-timeout", c.CloseTimeout},
		{"retry-initial", c.RetryInitial},
		{"retry-max", c.RetryMax},
		{"query-timeout", c.QueryTimeout},
	} {
		if d.value < 0 {
			fault("%s: %v is negative", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"retry-attempts", c.RetryAttempts},
		{"max-attempts", c.MaxAttempts},
		{"poison-limit", c.PoisonLimit},
		{"query-memory", c.QueryMemory},
		{"query-rows", c.QueryRows},
	} {
		if n.value < 0 {
			fault("%s: %d is negative", n.name, n.value)
		}
	}
	return errors.Join(faults...)
}

// addrs returns the addresses one by one.
func (c Config) addrs() []string {
	addrs := strings.Split(c.Addr, ",")
	for i := range addrs {
		addrs[i] = strings.TrimSpace(addrs[i])
	}
	return addrs
}
