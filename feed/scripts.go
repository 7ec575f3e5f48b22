package feed

import (
	"context"
	"crypto/sha1" //nolint:gosec // SHA-1 is how Redis names a script, not a safeguard
	_ "embed"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// The scripts of the feed. Each touches the keys of one hash tag and is
// idempotent. Ids are compared as strings of 19 digits: a Lua number is a double
// and would lose their last bits.
var (
	//go:embed lua/link.lua
	linkSource string
	//go:embed lua/keep.lua
	keepSource string
	//go:embed lua/delete.lua
	deleteSource string
	//go:embed lua/author.lua
	authorSource string
	//go:embed lua/push.lua
	pushSource string
	//go:embed lua/read.lua
	readSource string
	//go:embed lua/older.lua
	olderSource string
	//go:embed lua/begin.lua
	beginSource string
	//go:embed lua/install.lua
	installSource string
	//go:embed lua/restore.lua
	restoreSource string
	//go:embed lua/see.lua
	seeSource string
	//go:embed lua/mark.lua
	markSource string
	//go:embed lua/turn.lua
	turnSource string

	linkScript    = newScript(linkSource)
	keepScript    = newScript(keepSource)
	deleteScript  = newScript(deleteSource)
	authorScript  = newScript(authorSource)
	pushScript    = newScript(pushSource)
	readScript    = newScript(readSource)
	olderScript   = newScript(olderSource)
	beginScript   = newScript(beginSource)
	installScript = newScript(installSource)
	restoreScript = newScript(restoreSource)
	seeScript     = newScript(seeSource)
	markScript    = newScript(markSource)
	turnScript    = newScript(turnSource)

	allScripts = []script{
		linkScript, keepScript, deleteScript, authorScript, pushScript,
		readScript, olderScript, beginScript, installScript, restoreScript, seeScript,
		markScript, turnScript,
	}
)

// script is a Lua script by its name in Redis. It is called by that name alone,
// because pipelines have no fallback of their own; [redisStore.exec] loads the
// scripts where Redis does not know them.
type script struct {
	source string
	sha    string
}

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// args returns the command that calls the script with these keys and arguments.
func (s script) args(keys []string, argv ...any) []any {
	args := make([]any, 0, 3+len(keys)+len(argv))
	args = append(args, "evalsha", s.sha, len(keys))
	for _, key := range keys {
		args = append(args, key)
	}
	return append(args, argv...)
}

// integer calls a script that returns a number.
func (s script) integer(ctx context.Context, keys []string, argv ...any) *redis.IntCmd {
	return redis.NewIntCmd(ctx, s.args(keys, argv...)...)
}

// list calls a script that returns a list of strings.
func (s script) list(ctx context.Context, keys []string, argv ...any) *redis.StringSliceCmd {
	return redis.NewStringSliceCmd(ctx, s.args(keys, argv...)...)
}
