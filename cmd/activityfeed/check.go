package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

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
	errs = append(errs, c.API.Validate(), c.Post.Validate(), c.Graph.Validate(), c.Seen.Validate(), c.Feed.Validate(),
		stored.Validate(), c.Notify.Validate(), c.Push.Webpush.Validate(), c.Push.FCM.Validate(), c.Push.APNs.Validate())
	if roles.has(roleAPI) && c.API.CertFile != "" && c.API.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(c.API.CertFile, c.API.KeyFile); err != nil {
			errs = append(errs, fmt.Errorf("--api-cert-file and --api-key-file: %w", err))
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	parser, modelErr := kong.New(new(serveCmd))
	if modelErr != nil {
		return errors.Join(err, modelErr)
	}
	return errors.New(inFlags(err.Error(), parser.Model.Node))
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
