package notify

import (
	"context"
	"crypto/sha1" //nolint:gosec // SHA-1 is how Redis names a script, not a safeguard
	_ "embed"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// The scripts of the store. Each touches the keys of one hash tag and is
// idempotent.
var (
	//go:embed lua/link.lua
	linkSource string
	//go:embed lua/insert.lua
	insertSource string
	//go:embed lua/mark.lua
	markSource string

	linkScript   = newScript(linkSource)
	insertScript = newScript(insertSource)
	markScript   = newScript(markSource)

	allScripts = []script{linkScript, insertScript, markScript}
)

// script is a Lua script by its name in Redis. It is called by that name alone,
// because pipelines have no fallback of their own; [store.exec] loads the scripts
// where Redis does not know them.
type script struct {
	source string
	sha    string
}

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// call returns the command that calls the script; all of ours answer a number.
func (s script) call(ctx context.Context, keys []string, argv ...any) *redis.IntCmd {
	args := make([]any, 0, 3+len(keys)+len(argv))
	args = append(args, "evalsha", s.sha, len(keys))
	for _, key := range keys {
		args = append(args, key)
	}
	return redis.NewIntCmd(ctx, append(args, argv...)...)
}
