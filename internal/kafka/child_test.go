package kafka_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"activityfeed/internal/testenv"
)

// brokerEnv makes the test binary be a broker, "port,directory", so that a test
// can kill it.
const brokerEnv = "ACTIVITYFEED_TEST_BROKER"

// runBroker serves until it is killed.
func runBroker(addr string) int {
	port, dir, _ := strings.Cut(addr, ",")
	n, err := strconv.Atoi(port)
	if err == nil {
		_, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(n), kfake.DataDir(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// broker is a kfake in a process of its own, which is started again whenever it
// dies.
type broker struct {
	brokers []string
	pidFile string
	starts  atomic.Int32
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	port := testenv.FreePort(t)
	dir := t.TempDir()
	b := &broker{brokers: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, pidFile: filepath.Join(dir, "pid")}

	start := func() (*exec.Cmd, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%s", brokerEnv, port, filepath.Join(dir, "data")))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = bufio.NewReader(out).ReadString('\n') // "ready"
		}
		if err == nil {
			err = os.WriteFile(b.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
		}
		b.starts.Add(1)
		return cmd, err
	}
	cmd, err := start()
	if err != nil {
		t.Fatal(err)
	}
	var stopped atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			_ = cmd.Wait() // it is killed: its error says nothing
			if stopped.Load() {
				return
			}
			if cmd, err = start(); err != nil {
				t.Errorf("start the broker again: %v", err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		stopped.Store(true)
		if pid, err := os.ReadFile(b.pidFile); err == nil {
			if n, err := strconv.Atoi(string(pid)); err == nil {
				if p, err := os.FindProcess(n); err == nil {
					_ = p.Kill()
				}
			}
		}
		<-ended
	})
	return b
}
