// Package archtest holds the import rules of ARCHITECTURE.md as a test.
package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "activityfeed/"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

// domains never import each other: they meet on the topic.
var domains = []string{"post", "graph", "seen", "feed", "analytics", "notify"}

// allowed lists what each of our packages may import of ours. A package that is
// not listed here fails the test, so that a new room gets its rule with its door.
var allowed = map[string][]string{
	"proto/activityfeed/v1": {},
	"internal/metric":       {},
	"internal/fault":        {},
	"internal/redisfault":   {"internal/fault"},
	"internal/redispipe":    {},
	"internal/livestream":   {},
	"internal/record":       {},
	"internal/event":        {"proto/activityfeed/v1", "internal/fault", "internal/record"},
	"internal/kafka":        {"internal/fault", "internal/record"},
	"internal/embedded":     {},
	"internal/app":          {},
	"internal/rpc":          {"internal/fault"},
	"internal/delivery":     {"proto/activityfeed/v1", "internal/event", "internal/fault", "internal/record"},
	"internal/middleware":   {"internal/delivery", "internal/event", "internal/fault", "internal/metric", "internal/record"},
	"internal/poison":       {"internal/event", "internal/fault", "internal/record", "internal/middleware"},
	"post":                  domain(),
	"graph":                 domain(),
	"seen":                  domain(),
	"feed":                  append(domain(), "internal/livestream"),
	"analytics":             domain(),
	"notify":                append(domain(), "internal/livestream", "notify/push", "notify/device", "notify/prefs", "notify/deliver"),
	"notify/device":         {"proto/activityfeed/v1", "internal/event", "internal/redisfault", "internal/redispipe", "notify/push"},
	"notify/prefs":          {"proto/activityfeed/v1", "internal/fault"},
	"notify/template":       {"proto/activityfeed/v1"},
	"notify/schedule":       {"internal/redisfault", "internal/redispipe"},
	"notify/deliver": {
		"proto/activityfeed/v1", "internal/delivery", "internal/event", "internal/fault", "internal/metric", "internal/redisfault", "internal/redispipe",
		"notify/device", "notify/prefs", "notify/push", "notify/schedule", "notify/template",
	},
	"notify/push":                  {"internal/fault"},
	"notify/push/internal/jws":     {},
	"notify/push/internal/wire":    {"internal/fault", "notify/push"},
	"notify/push/pushtest":         {"internal/fault", "internal/testenv/pushservice", "notify/push"},
	"notify/push/webpush":          sender(),
	"notify/push/fcm":              sender(),
	"notify/push/apns":             sender(),
	"internal/load":                {"proto/activityfeed/v1", "internal/event", "internal/load/longrun"},
	"internal/load/longrun":        {},
	"internal/audit":               {"proto/activityfeed/v1", "internal/event", "internal/load/longrun", "internal/record"},
	"internal/rebuild":             {"proto/activityfeed/v1", "internal/event", "internal/fault", "internal/load/longrun"},
	"internal/bench":               {"proto/activityfeed/v1", "internal/event", "internal/fault", "internal/record", "internal/kafka", "internal/rpc", "feed", "analytics", "notify", "notify/push", "notify/push/webpush", "internal/testenv/pushservice", "internal/load/longrun"},
	"internal/testenv":             {"internal/embedded"},
	"internal/testenv/apachekafka": {},
	"internal/testenv/pushservice": {},
	"internal/archtest":            {},
	"web":                          {},
	"cmd/activityfeed":             nil, // wires everything
}

func domain() []string {
	return []string{"proto/activityfeed/v1", "internal/delivery", "internal/event", "internal/fault", "internal/metric", "internal/record", "internal/middleware", "internal/redisfault", "internal/redispipe"}
}

// sender is one push provider: it knows what a message is and nothing of who sends.
func sender() []string {
	return []string{"internal/fault", "notify/push", "notify/push/internal/jws", "notify/push/internal/wire"}
}

// confined maps a client library to the only packages that may speak it.
var confined = map[string][]string{
	"github.com/twmb/franz-go":                 {"internal/kafka", "internal/embedded", "internal/testenv"},
	"github.com/redis/go-redis":                {"feed", "notify", "notify/device", "notify/schedule", "notify/deliver", "internal/redisfault", "internal/redispipe", "internal/embedded", "internal/testenv", "internal/bench", "cmd/activityfeed"},
	"github.com/ClickHouse/clickhouse-go":      {"analytics", "internal/embedded", "internal/testenv", "internal/bench"},
	"github.com/ClickHouse/ch-go":              {"analytics"},
	"github.com/alicebob/miniredis":            {"internal/embedded", "internal/testenv"},
	"github.com/ThreeDotsLabs/watermill-kafka": {"internal/bench"},
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		rule, listed := allowed[name]
		if !listed {
			t.Errorf("%s has no import rule: add it to allowed", name)
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok && name != "cmd/activityfeed" && !slices.Contains(rule, ours) {
				t.Errorf("%s imports %s: its rule allows %v", name, ours, rule)
			}
			for library, rooms := range confined {
				if strings.HasPrefix(imported, library) && !slices.Contains(rooms, name) {
					t.Errorf("%s imports %s, which stays inside %v", name, imported, rooms)
				}
			}
		}
	}
}

func TestDomainsHaveTheSameFurniture(t *testing.T) {
	t.Parallel()
	for _, d := range domains {
		files := []string{"doc.go", "config.go", d + ".go"}
		switch d {
		case "seen": // its commands come through the services of those who show things
		case "post", "graph":
			files = append(files, "service.go")
		default:
			files = append(files, "router.go", "middleware.go")
		}
		for _, file := range files {
			if _, err := os.Stat(filepath.Join("..", "..", d, file)); err != nil {
				t.Error(err)
			}
		}
	}
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}
