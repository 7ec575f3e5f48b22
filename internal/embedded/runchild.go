package embedded

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// childEnv tells a started copy of this program which engine it is.
const childEnv = "ACTIVITYFEED_ENGINE_CHILD"

// RunChild turns this process into an engine when [StartClickHouse] started it as
// one, and never returns then; else it does nothing. It is the first call of
// main, and of testenv.Main: nothing else of the program may run in an engine.
func RunChild() {
	switch engine := os.Getenv(childEnv); engine {
	case "":
		return
	case "clickhouse":
		fmt.Fprintln(os.Stderr, runClickHouse(os.Args[1], os.Args[2:]))
	default:
		fmt.Fprintf(os.Stderr, "%s=%q names no engine\n", childEnv, engine)
	}
	// An engine that returns has failed: it serves until it is ended by a signal.
	os.Exit(1)
}

// runClickHouse loads the engine and hands it the command line. Of the library
// only the command line entry can open ports: with chdb_connect the engine says
// that "start_servers_callback is not set".
func runClickHouse(library string, args []string) error {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("load the clickhouse engine: %w", err)
	}
	var cmdline func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	purego.RegisterLibFunc(&cmdline, lib, "chdb_query_cmdline")
	var resultError func(result unsafe.Pointer) string
	purego.RegisterLibFunc(&resultError, lib, "chdb_result_error")

	argv := make([]*byte, 0, len(args)+2)
	for _, a := range append([]string{"clickhouse"}, args...) {
		b := append([]byte(a), 0)
		argv = append(argv, &b[0])
	}
	argv = append(argv, nil)
	result := cmdline(int32(len(argv)-1), unsafe.Pointer(&argv[0])) //nolint:gosec // a C array
	runtime.KeepAlive(argv)
	if result == nil {
		return errors.New("the clickhouse engine ended")
	}
	return fmt.Errorf("the clickhouse engine ended: %s", resultError(result))
}
