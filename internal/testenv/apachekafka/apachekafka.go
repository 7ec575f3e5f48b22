// Package apachekafka runs one node of the real Apache Kafka (KRaft, broker and
// controller in one process) on free loopback ports, for tests.
//
// It needs Java 17 and the jars that pom.xml beside this file names; versions that
// are known to work: kafka_2.13 4.1.1, slf4j-simple 1.7.36, OpenJDK 17. To fetch
// them:
//
//	mvn --batch-mode --quiet -f internal/testenv/apachekafka/pom.xml \
//	  dependency:copy-dependencies -DoutputDirectory="$PWD/.tools/apache-kafka"
package apachekafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// JarsEnv is the environment variable that holds the directory of the jars. Tests
// run against the real Kafka when it is set.
const JarsEnv = "ACTIVITYFEED_KAFKA_JARS"

const (
	// started is what the node prints when it serves.
	started   = "Kafka Server started"
	stopLimit = 20 * time.Second
)

// Config says what to run.
type Config struct {
	// Jars is the directory of the jars. Required.
	Jars string
	// Dir is where the node keeps its log; it is made if need be. Required.
	Dir string
	// Properties are further settings of the node, as in server.properties.
	Properties map[string]string
}

// Node is a running node.
type Node struct {
	broker string
	cmd    *exec.Cmd
	// exited is closed when the process is gone; exit then holds why.
	exited chan struct{}
	exit   error
	// drained is closed when all the node's output is read.
	drained chan struct{}
	log     *slog.Logger
}

// Start formats the storage, starts the node and returns when it serves. The
// context bounds the start alone; the node runs until Close.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Node, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, fmt.Errorf("find ports for kafka: %w", err)
	}
	conf, err := writeProperties(cfg, ports[0], ports[1])
	if err != nil {
		return nil, fmt.Errorf("configure kafka: %w", err)
	}
	format := java(cfg.Jars, "kafka.tools.StorageTool", "format", "--cluster-id", "QWN0aXZpdHlmZWVkLVRlcw", "--config", conf, "--ignore-formatted")
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format the storage of kafka: %w: %s", err, out)
	}
	n := &Node{
		broker:  fmt.Sprintf("127.0.0.1:%d", ports[0]),
		cmd:     java(cfg.Jars, "kafka.Kafka", conf),
		exited:  make(chan struct{}),
		drained: make(chan struct{}),
		log:     log,
	}
	if err := n.run(ctx); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	return n, nil
}

// Brokers returns the node's address.
func (n *Node) Brokers() []string { return []string{n.broker} }

// Close stops the node and returns when its process is gone.
func (n *Node) Close() error {
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-n.exited:
	case <-time.After(stopLimit):
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
	return nil
}

// run starts the process and waits until it serves.
func (n *Node) run(ctx context.Context) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	n.cmd.Stdout, n.cmd.Stderr = in, in
	err = n.cmd.Start()
	_ = in.Close() // the process has its own
	if err != nil {
		_ = out.Close()
		return err
	}
	ready := make(chan struct{})
	go n.follow(out, ready)
	go func() {
		<-n.drained
		n.exit = n.cmd.Wait()
		close(n.exited)
	}()
	select {
	case <-ready:
		return nil
	case <-n.exited:
		return fmt.Errorf("the process ended: %w", errors.Join(n.exit, errors.New("see its output in the log")))
	case <-ctx.Done():
		_ = n.cmd.Process.Kill()
		<-n.exited
		return ctx.Err()
	}
}

// follow logs the node's output and tells when it serves.
func (n *Node) follow(out io.ReadCloser, ready chan<- struct{}) {
	defer close(n.drained)
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.log.Debug("kafka: " + lines.Text())
		if ready != nil && strings.Contains(lines.Text(), started) {
			close(ready)
			ready = nil
		}
	}
}

// java makes a command that runs a class of the jars. It dies with its parent, so
// that a test that is killed leaves nothing behind.
func java(jars, class string, args ...string) *exec.Cmd {
	cmd := exec.Command("java", append([]string{
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
		"-cp", filepath.Join(jars, "*"), class,
	}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func writeProperties(cfg Config, port, controllerPort int) (path string, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return "", err
	}
	properties := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       fmt.Sprintf("1@127.0.0.1:%d", controllerPort),
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, controllerPort),
		"advertised.listeners":           fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", port),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                       filepath.Join(cfg.Dir, "data"),
		"auto.create.topics.enable":      "false",
		// One node: everything that is replicated by default has one replica.
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		// Tests have no time to wait for members that do not come, or are dead.
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "500",
	}
	maps.Copy(properties, cfg.Properties)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&b, "%s=%s\n", name, properties[name])
	}
	path = filepath.Join(cfg.Dir, "server.properties")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// freePorts returns ports that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	listeners := make([]net.Listener, n)
	defer func() { // at the end, so that no port is given twice
		for _, l := range listeners {
			if l != nil {
				_ = l.Close()
			}
		}
	}()
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners[i] = l
		addr, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports[i] = int(addr.Port())
	}
	return ports, nil
}
