package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// newParser returns the parser of the whole command line.
func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("activityfeed"),
		kong.Description("A self-hosted activity-feed backend: post a photo, and followers' feeds, analytics and notifications know of it once."),
		kong.PostBuild(bindEnvironment),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Vars{"version": versionText()},
	)
}

// connection are the settings that say where a server and its engines are: they mean
// the same in every command.
var connection = []string{
	"data-dir", "api", "kafka", "redis", "redis-username", "redis-password",
	"clickhouse", "clickhouse-database", "clickhouse-username", "clickhouse-password",
}

// bindEnvironment gives environment variables to what describes a server: all flags of
// serve, and in the tools those of its connections and what a tool has to set as the
// server does. What a tool is told to do is said on its command line alone: a variable
// that is left over must not drop or repair anything, and one name must not be a port
// here and a number of users there.
func bindEnvironment(k *kong.Kong) error {
	served := map[string]bool{}
	for _, node := range k.Model.Children {
		if node.Name != "serve" {
			continue
		}
		for _, flag := range node.Flags {
			served[flag.Name] = true
			bindFlag(flag)
		}
	}
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		flag, ok := node.(*kong.Flag)
		if ok && (slices.Contains(connection, flag.Name) || strings.HasPrefix(flag.Name, "log-") || served[flag.Name] && isOfServer(flag.Name)) {
			bindFlag(flag)
		}
		return next(nil)
	})
}

func bindFlag(flag *kong.Flag) {
	name := "ACTIVITYFEED_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
	flag.Envs, flag.Tag.Envs = []string{name}, []string{name}
}

// isOfServer says whether a flag sets up a service: tools that do its work have the same
// ones.
func isOfServer(flag string) bool {
	return slices.ContainsFunc([]string{"feed-", "analytics-", "notify-"}, func(prefix string) bool {
		return strings.HasPrefix(flag, prefix)
	})
}

// explain says an error of the command line by the flags that stand there, and adds what
// may stand for an argument that is missing.
func explain(err error) error {
	var parsing *kong.ParseError
	if !errors.As(err, &parsing) || parsing.Context == nil || parsing.Context.Selected() == nil {
		return err
	}
	node := parsing.Context.Selected()
	for _, arg := range node.Positional {
		if arg.Enum != "" && strings.Contains(err.Error(), `expected "<`+arg.Name+">") {
			return fmt.Errorf("%w: one of %s", err, strings.ReplaceAll(arg.Enum, ",", ", "))
		}
	}
	return errors.New(inFlags(strings.TrimPrefix(err.Error(), node.Name+": "), node))
}

// inFlags says the faults of settings, a line each, by the flags of a command: "feed: cap:
// -3 is not in 0..10000", as a domain says it, is about --feed-cap.
func inFlags(text string, command *kong.Node) string {
	has := make(map[string]bool)
	for _, group := range command.AllFlags(false) {
		for _, flag := range group {
			has[flag.Name] = true
		}
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		group, rest, _ := strings.Cut(line, ": ")
		name, fault, _ := strings.Cut(rest, ": ")
		switch {
		case has[group+"-"+name]:
			lines[i] = "--" + group + "-" + name + ": " + fault
		case has[name]: // the group is the command
			lines[i] = "--" + name + ": " + fault
		case has[group]:
			lines[i] = "--" + line
		}
	}
	return strings.Join(lines, "\n")
}
