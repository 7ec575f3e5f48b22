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

// explain adds to an error of the command line what may stand there, and says the name of
// a command once where its settings have the same.
func explain(err error) error {
	var parsing *kong.ParseError
	if !errors.As(err, &parsing) || parsing.Context == nil || parsing.Context.Selected() == nil {
		return err
	}
	node := parsing.Context.Selected()
	if rest, ok := strings.CutPrefix(err.Error(), node.Name+": "); ok && strings.HasPrefix(rest, node.Name+": ") {
		return errors.New(rest)
	}
	for _, arg := range node.Positional {
		if arg.Enum != "" && strings.Contains(err.Error(), `expected "<`+arg.Name+">") {
			return fmt.Errorf("%w: one of %s", err, strings.ReplaceAll(arg.Enum, ",", ", "))
		}
	}
	return err
}
