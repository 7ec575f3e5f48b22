package feed

import (
	_ "embed"

	"activityfeed/internal/redispipe"
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

	linkScript    = redispipe.NewScript(linkSource)
	keepScript    = redispipe.NewScript(keepSource)
	deleteScript  = redispipe.NewScript(deleteSource)
	authorScript  = redispipe.NewScript(authorSource)
	pushScript    = redispipe.NewScript(pushSource)
	readScript    = redispipe.NewScript(readSource)
	olderScript   = redispipe.NewScript(olderSource)
	beginScript   = redispipe.NewScript(beginSource)
	installScript = redispipe.NewScript(installSource)
	restoreScript = redispipe.NewScript(restoreSource)
	seeScript     = redispipe.NewScript(seeSource)
	markScript    = redispipe.NewScript(markSource)
	turnScript    = redispipe.NewScript(turnSource)

	allScripts = []redispipe.Script{
		linkScript, keepScript, deleteScript, authorScript, pushScript,
		readScript, olderScript, beginScript, installScript, restoreScript, seeScript,
		markScript, turnScript,
	}
)
