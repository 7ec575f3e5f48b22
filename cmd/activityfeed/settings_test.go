package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// allFlags gives fn each flag of each command, with the command's path.
func allFlags(t *testing.T, fn func(command string, flag *kong.Flag)) {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(node *kong.Node)
	walk = func(node *kong.Node) {
		for _, flag := range node.Flags {
			fn(node.FullPath(), flag)
		}
		for _, child := range node.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
}

// A variable means one thing in all commands, and a tool is told what to do by its
// command line alone.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	// Where a server is: the flags of serve make it so, those of the tools find it.
	places := []string{
		"ACTIVITYFEED_DATA_DIR", "ACTIVITYFEED_API", "ACTIVITYFEED_KAFKA",
		"ACTIVITYFEED_REDIS", "ACTIVITYFEED_REDIS_USERNAME", "ACTIVITYFEED_REDIS_PASSWORD",
		"ACTIVITYFEED_CLICKHOUSE", "ACTIVITYFEED_CLICKHOUSE_DATABASE", "ACTIVITYFEED_CLICKHOUSE_USERNAME", "ACTIVITYFEED_CLICKHOUSE_PASSWORD",
	}
	type meaning struct {
		command string
		flag    *kong.Flag
	}
	known := map[string]meaning{}
	allFlags(t, func(command string, flag *kong.Flag) {
		for _, env := range flag.Envs {
			first, ok := known[env]
			if !ok {
				known[env] = meaning{command, flag}
				continue
			}
			if got, want := flag.Target.Type(), first.flag.Target.Type(); got != want {
				t.Errorf("%s is of type %v in '%s' and %v in '%s'", env, got, command, want, first.command)
			}
			if slices.Contains(places, env) {
				continue
			}
			if flag.Help != first.flag.Help || flag.Default != first.flag.Default {
				t.Errorf("%s is %q (%s) in '%s' and %q (%s) in '%s'",
					env, flag.Help, flag.Default, command, first.flag.Help, first.flag.Default, first.command)
			}
		}
	})
	served := map[string]bool{}
	allFlags(t, func(command string, flag *kong.Flag) {
		if command == "activityfeed serve" || command == "activityfeed" {
			for _, env := range flag.Envs {
				served[env] = true
			}
			if len(flag.Envs) == 0 && flag.Name != "help" && flag.Name != "version" {
				t.Errorf("--%s of '%s' has no variable", flag.Name, command)
			}
		}
	})
	allFlags(t, func(command string, flag *kong.Flag) {
		for _, env := range flag.Envs {
			if !served[env] && !slices.Contains(places, env) {
				t.Errorf("%s tells '%s' what to do: the command line alone should", env, command)
			}
		}
	})
}

func TestEnvironmentOfTools(t *testing.T) {
	for _, tt := range []struct {
		name, env, value string
		args             []string
		got              func(c *cli) any
		want             any
	}{
		{"nothing is dropped", "ACTIVITYFEED_ALL", "true", []string{"poison", "drop", "notify"}, func(c *cli) any { return c.Poison.Drop.Choice.All }, false},
		{"a dry run is asked for", "ACTIVITYFEED_DRY_RUN", "true", []string{"poison", "replay", "feed"}, func(c *cli) any { return c.Poison.Replay.Choice.DryRun }, false},
		{"nothing is repaired", "ACTIVITYFEED_REPAIR", "true", []string{"audit"}, func(c *cli) any { return c.Audit.Repair }, false},
		{"users of a rebuild", "ACTIVITYFEED_USERS", "7", []string{"rebuild"}, func(c *cli) any { return len(c.Rebuild.Users) }, 0},
		{"posts of a bench", "ACTIVITYFEED_POSTS", "7", []string{"bench", "fanout"}, func(c *cli) any { return c.Bench.Fanout.Posts }, 45000},
		{"the port of the auditor", "ACTIVITYFEED_OPS", "0.0.0.0:9091", []string{"audit"}, func(c *cli) any { return c.Audit.Ops }, "127.0.0.1:9092"},
		{"the port of the server", "ACTIVITYFEED_OPS", "0.0.0.0:9091", []string{"serve"}, func(c *cli) any { return c.Serve.Ops }, "0.0.0.0:9091"},
		{"a password", "ACTIVITYFEED_REDIS_PASSWORD", "secret", []string{"rebuild"}, func(c *cli) any { return c.Rebuild.Redis.RedisPassword }, "secret"},
		{"the API", "ACTIVITYFEED_API", "api:9090", []string{"audit"}, func(c *cli) any { return c.Audit.Target.API }, "api:9090"},
		{"feeds as the server has them", "ACTIVITYFEED_FEED_CAP", "100", []string{"rebuild"}, func(c *cli) any { return c.Rebuild.Feed.Cap }, 100},
		{"the log", "ACTIVITYFEED_LOG_FORMAT", "json", []string{"poison", "list", "feed"}, func(c *cli) any { return c.Log.Format }, "json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.env, tt.value)
			var c cli
			parser, err := newParser(&c, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			if got := tt.got(&c); got != tt.want {
				t.Errorf("%s=%s %q: %v, want %v", tt.env, tt.value, tt.args, got, tt.want)
			}
		})
	}
}

// What is wrong on the command line is said before anything starts, by the name that
// stands there.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string
	}{
		{"bench fanout --users=-1", "--users: -1 is not in 2.."},
		{"bench fanout --posts=0", "--posts: 0 is not in 5.."},
		{"bench fanout --users=99999999999", "--users: 99999999999 is not in 2.."},
		{"bench read --users=1", "--users: 1 is not in 2.."},
		{"bench read --users=100 --posts=99", "--posts: 99 is not in 100.."},
		{"bench visible --users=-1", "--users: -1 is not in 2.."},
		{"bench scale --small=-1", "--small: -1 is not in 2.."},
		{"bench scale --large=0", "--large: 0 is not in 2.."},
		{"bench push --pushes=0", "--pushes: 0 is not in 1.."},
		{"bench analytics --rows=-5", "--rows: -5 is not in 1.."},
		{"demo --posts=-1", "--posts: -1 is not in 1.."},
		{"audit --depth=-1", "--depth: -1 is negative"},
		{"serve --api-addr=localhost", `--api-addr: "localhost" is not host:port`},
		{"serve --api-cert-file=x", "--api-key-file: is missing"},
		{"serve --post-lookup-timeout=-1s", "--post-lookup-timeout: -1s is negative"},
		{"serve --graph-list-timeout=-1s", "--graph-list-timeout: -1s is negative"},
		{"serve --seen-publish-timeout=-1s", "--seen-publish-timeout: -1s is negative"},
		{"serve --feed-cap=-3", "--feed-cap: -3 is not in 0..10000"},
		{"serve --feed-slow-client=-1s", "--feed-slow-client: must not be negative"},
		{"serve --analytics-unreplicated", "--analytics-unreplicated: "},
		{"serve --notify-inbox-rows=-1", "--notify-inbox-rows: -1 is not in 0..5000"},
		{"serve --notify-push-lease=1s", "--notify-push-lease: 1s is not longer than push-timeout"},
		{"serve --push-webpush-subject=bob", `--push-webpush-subject: "bob" begins neither`},
		{"serve --push-fcm-per-minute=-1", "--push-fcm-per-minute: -1 is negative"},
		{"serve --push-apns-key-file=x --push-apns-key-id=a", `--push-apns-key-id: "a" has not 10`},
		{"rebuild --feed-cap=-3", "--feed-cap: -3 is not in 0..10000"},
		{"serve --notify-default-level=none", "unknown flag --notify-default-level"}, // graph's has the say
		{"rebuild --users=ann,b!d", `--users: "b!d" is not a user id: 1 to 64 characters of`},
		{"rebuild --rate=-1", "--rate: -1 is negative; 0 is no limit"},
		{"rebuild --not-in-log=keep", "--not-in-log is about tables: give it with --analytics"},
		{"rebuild --analytics --users=ann", "--users and --from are about feeds"},
		{"poison drop feed --older=-1h", "--older: -1h0m0s is negative"},
		{"poison replay feed --all --rate=-1", "--rate: -1 is negative"},
		{"poison replay feed --all --max-replays=-1", "--max-replays: -1 is less than 1"},
		{"poison list", `expected "<service>": one of feed, analytics, notify`},
		{"poison show", `expected "<service> <id>": one of feed, analytics, notify`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			var c cli
			parser, err := newParser(&c, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parser.Parse(strings.Fields(tt.args))
			if err == nil {
				t.Fatal("is not refused")
			}
			got := explain(err).Error()
			if !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Whatever fault a number of serve has, its error has the words of the flag.
func TestFaultsNameTheirFlags(t *testing.T) {
	t.Parallel()
	allFlags(t, func(command string, flag *kong.Flag) {
		if command != "activityfeed serve" {
			return
		}
		value := "-1"
		switch flag.Target.Interface().(type) {
		case int:
		case time.Duration:
			value = "-1s"
		default:
			return
		}
		var c cli
		parser, err := newParser(&c, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		arg := "--" + flag.Name + "=" + value
		if _, err := parser.Parse([]string{"serve", arg}); err != nil && !strings.Contains(explain(err).Error(), "--"+flag.Name) {
			t.Errorf("serve %s: %v, which does not name the flag", arg, explain(err))
		}
	})
}
