package notify

import (
	_ "embed"

	"activityfeed/internal/redispipe"
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
	//go:embed lua/restore.lua
	restoreSource string
	//go:embed lua/prefer.lua
	preferSource string

	linkScript    = redispipe.NewScript(linkSource)
	insertScript  = redispipe.NewScript(insertSource)
	markScript    = redispipe.NewScript(markSource)
	restoreScript = redispipe.NewScript(restoreSource)
	preferScript  = redispipe.NewScript(preferSource)

	allScripts = []redispipe.Script{linkScript, insertScript, markScript, restoreScript, preferScript}
)
