package kafka_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
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
