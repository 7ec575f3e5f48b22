package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"activityfeed/internal/embedded"
	"activityfeed/internal/event"
)

// Validate is called by the command line's parser, before it asks the domains, who do
// not know their flags.
func (c *serveCmd) Validate() error {
	roles, err := parseRoles(c.Roles)
	if err != nil {
		return err
	}
	return c.check(roles)
}

// check names, by their flags, the settings that cannot work. It is called before
// anything starts: engines need seconds, and their own words are about something else.
func (c *serveCmd) check(roles roleSet) error {
	errs := []error{c.Engines.check(), c.Consumer.check(), c.Push.check()}
	if _, err := event.NewIDs(c.Node, nil); err != nil {
		errs = append(errs, fmt.Errorf("--node: %d is not 0 to 1023", c.Node))
	}
	if _, _, err := net.SplitHostPort(c.Ops); err != nil {
		errs = append(errs, fmt.Errorf("--ops: %q is not host:port", c.Ops))
	}
	stored := c.Analytics
	stored.Database = c.Engines.ClickhouseDatabase
	for _, settings := range []struct {
		err      error
		prefixes []string
	}{
		{c.API.Validate(), []string{"api"}},
		{c.Post.Validate(), []string{"post"}},
		{c.Graph.Validate(), []string{"graph"}},
		{c.Seen.Validate(), []string{"seen"}},
		{c.Feed.Validate(), []string{"feed"}},
		{stored.Validate(), []string{"analytics", "clickhouse"}},
		{c.Notify.Validate(), []string{"notify", "notifypush"}},
		{c.Push.Webpush.Validate(), []string{"pushwebpush"}},
		{c.Push.FCM.Validate(), []string{"pushfcm"}},
		{c.Push.APNs.Validate(), []string{"pushapns"}},
	} {
		errs = append(errs, byFlag(settings.err, settings.prefixes...))
	}
	if roles.has(roleAPI) && c.API.CertFile != "" && c.API.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(c.API.CertFile, c.API.KeyFile); err != nil {
			errs = append(errs, fmt.Errorf("--api-cert-file and --api-key-file: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (f engineFlags) check() error {
	errs := []error{
		checkAddrs("--redis", f.Redis), checkAddrs("--clickhouse", f.Clickhouse),
		checkPort("--kafka-port", f.KafkaPort), checkPort("--redis-port", f.RedisPort), checkPort("--clickhouse-port", f.ClickhousePort),
	}
	for _, addr := range f.Kafka {
		if strings.Contains(addr, ":") { // without a port it is Kafka's usual one
			errs = append(errs, checkAddrs("--kafka", []string{addr}))
		}
	}
	if f.Partitions < 1 {
		errs = append(errs, fmt.Errorf("--partitions: %d is not 1 or more", f.Partitions))
	}
	switch {
	case f.Replicas < 0:
		errs = append(errs, fmt.Errorf("--replicas: %d is not 0 or more", f.Replicas))
	case f.Replicas > 1 && len(f.Kafka) == 0:
		errs = append(errs, errors.New("--replicas needs a Kafka of your own (--kafka): the embedded log is one process"))
	}
	return errors.Join(errs...)
}

func (c consumerConfig) check() error {
	var errs []error
	for _, setting := range []struct {
		flag  string
		value int64
	}{
		{"--consumer-window", int64(c.Window)},
		{"--consumer-tracked", int64(c.Tracked)},
		{"--consumer-drain", int64(c.Drain)},
		{"--consumer-max-backoff", int64(c.MaxBackoff)},
		{"--consumer-batch-records", int64(c.BatchRecords)},
		{"--consumer-batch-bytes", int64(c.BatchBytes)},
		{"--consumer-batch-wait", int64(c.BatchWait)},
	} {
		if setting.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", setting.flag))
		}
	}
	return errors.Join(errs...)
}

// checkAddrs refuses addresses without a port, which clients take and then fail on
// for ever. A path is that of a socket.
func checkAddrs(flag string, addrs []string) error {
	var errs []error
	for _, addr := range addrs {
		if strings.HasPrefix(addr, "/") {
			continue
		}
		_, port, err := net.SplitHostPort(addr)
		if n, numberErr := strconv.Atoi(port); err != nil || numberErr != nil || n < 1 || n > 65535 {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port", flag, addr))
		}
	}
	return errors.Join(errs...)
}

func checkPort(flag string, port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("%s: %d is not 0 to 65535", flag, port)
	}
	return nil
}

// domainName is how a domain begins what it says of its settings.
var domainName = regexp.MustCompile(`^[a-z]+: `)

// byFlag says the faults of a domain's settings with the names that they have on the
// command line: the domain knows its fields alone ("feed: Cap is -3", "post: publish
// timeout -1s is negative"). Prefixes are those of the domain's flags.
func byFlag(err error, prefixes ...string) error {
	if err == nil {
		return nil
	}
	parser, modelErr := kong.New(new(serveCmd))
	if modelErr != nil {
		return err
	}
	flags := make(map[string]string)
	for _, group := range parser.Model.AllFlags(false) {
		for _, flag := range group {
			flags[strings.ReplaceAll(flag.Name, "-", "")] = flag.Name
		}
	}
	var errs []error
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		text := domainName.ReplaceAllString(line, "")
		if flag, rest := leadingFlag(text, flags, prefixes); flag != "" {
			line = "--" + flag + rest
		}
		errs = append(errs, errors.New(line))
	}
	return errors.Join(errs...)
}

// leadingFlag finds the flag whose name is the first words of text, as a field
// ("RebuildWait") or in words ("call timeout"), and what follows them.
func leadingFlag(text string, flags map[string]string, prefixes []string) (flag, rest string) {
	name := ""
	for rest = text; rest != "" && len(name) < 40; {
		word, after, _ := strings.Cut(rest, " ")
		name += strings.ToLower(strings.TrimSuffix(word, ":"))
		for _, prefix := range prefixes {
			if found := flags[prefix+name]; found != "" {
				return found, strings.TrimPrefix(rest, strings.TrimSuffix(word, ":"))
			}
		}
		rest = after
	}
	return "", ""
}

// folders are those of the embedded engines that the roles need.
func (f engineFlags) folders(roles roleSet) []string {
	var dirs []string
	if len(f.Kafka) == 0 {
		dirs = append(dirs, filepath.Join(f.DataDir, "kafka"))
	}
	if len(f.Redis) == 0 && roles.needsRedis() {
		dirs = append(dirs, filepath.Join(f.DataDir, "redis"))
	}
	if len(f.Clickhouse) == 0 && roles.has(roleAnalytics) {
		dirs = append(dirs, filepath.Join(f.DataDir, "clickhouse"))
	}
	return dirs
}

// checkFolders makes the data folder and sees that this process, and nobody else, can
// serve from it.
func (f engineFlags) checkFolders(ctx context.Context, roles roleSet) error {
	if f.DataDir == "" {
		return errors.New(`--data-dir: name a folder ("." is the current one)`)
	}
	engines := f.folders(roles)
	for _, dir := range append([]string{f.DataDir}, engines...) {
		if err := makeFolder(dir); err != nil {
			return fmt.Errorf("--data-dir: %w", err)
		}
	}
	for _, dir := range engines {
		err := embedded.AwaitUnused(ctx, dir)
		inUse, ok := errors.AsType[*embedded.InUseError](err)
		switch {
		case ok && inUse.Left:
			return fmt.Errorf("--data-dir: %s is in use: an engine of an earlier run, %s, still serves from it: end that process", f.DataDir, inUse.By)
		case ok:
			return fmt.Errorf("--data-dir: %s is in use: another activityfeed, %s, serves from it: stop that one, or give this one a folder of its own", f.DataDir, inUse.By)
		case err != nil:
			return fmt.Errorf("--data-dir: %w", err)
		}
	}
	return nil
}

// makeFolder makes a folder and writes in it, or says whose it is and what to do.
func makeFolder(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = tryToWrite(dir)
	}
	if err == nil {
		return nil
	}
	// What exists of the path decides.
	at := dir
	info, statErr := os.Stat(at)
	for statErr != nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, statErr = os.Stat(at)
	}
	cause := err
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		cause = inner.Err
	}
	switch {
	case statErr != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: name a folder", at)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to %s, and %s may not write there: give it to them (chown), or name another folder", at, owner(info), userName(os.Geteuid()))
	}
	return fmt.Errorf("cannot write in %s: %w: name another folder", at, cause)
}

func tryToWrite(dir string) error {
	file, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

func owner(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return userName(int(stat.Uid))
	}
	return "somebody else"
}

func userName(id int) string {
	if found, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return found.Username
	}
	return "user " + strconv.Itoa(id)
}

// ports are those that this process listens on, and the flags that gave them.
type ports map[int]string

// listen opens a port. An error names the flag that it comes from, whose value is
// what the operator gave.
func (p ports) listen(flag, value, addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err == nil {
		p[portOf(listener.Addr().String())] = flag
		return listener, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if other := p[portOf(addr)]; other != "" {
			return nil, fmt.Errorf("%s: %s is the port of %s too: choose another (0 picks a free one)", flag, value, other)
		}
		return nil, fmt.Errorf("%s: %s is taken by another program: stop that, or choose another (0 picks a free one)", flag, value)
	}
	if inner, ok := errors.AsType[*net.OpError](err); ok {
		err = inner.Err
	}
	return nil, fmt.Errorf("%s: %s: %w", flag, value, err)
}

// listen opens the ports of the API and of the operator, and sees that those of the
// embedded engines are free. Without the role api there is no listener for it.
func (c *serveCmd) listen(roles roleSet) (api, ops net.Listener, err error) {
	taken := make(ports)
	var errs []error
	// The engines listen for themselves, after this.
	for flag, port := range c.Engines.fixedPorts(roles) {
		l, err := taken.listen(flag, strconv.Itoa(port), net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer func() { _ = l.Close() }()
	}
	if roles.has(roleAPI) {
		if api, err = taken.listen("--api-addr", c.API.Addr, c.API.Addr); err != nil {
			errs = append(errs, err)
		}
	}
	if ops, err = taken.listen("--ops", c.Ops, c.Ops); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		for _, l := range []net.Listener{api, ops} {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, nil, err
	}
	return api, ops, nil
}

// fixedPorts are those that embedded engines were given by number, by flag.
func (f engineFlags) fixedPorts(roles roleSet) map[string]int {
	fixed := make(map[string]int)
	add := func(flag string, port int, runs bool) {
		if port != 0 && runs {
			fixed[flag] = port
		}
	}
	add("--kafka-port", f.KafkaPort, len(f.Kafka) == 0)
	add("--redis-port", f.RedisPort, len(f.Redis) == 0 && roles.needsRedis())
	add("--clickhouse-port", f.ClickhousePort, len(f.Clickhouse) == 0 && roles.has(roleAnalytics))
	return fixed
}
