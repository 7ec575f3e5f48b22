package notify

import (
	_ "embed"

	"activityfeed/internal/redispipe"
)

// The scripts of the store. Each touches the keys of one hash tag and is
// idempotent.
var (
	//go:embed lua/edge.lua
	edgeSource string
	//go:embed lua/rows.lua
	rowsSource string
	//go:embed lua/link.lua
	linkSource string
	//go:embed lua/follow.lua
	followSource string
	//go:embed lua/refollow.lua
	refollowSource string
	//go:embed lua/insert.lua
	insertSource string
	//go:embed lua/mark.lua
	markSource string
	//go:embed lua/restore.lua
	restoreSource string
	//go:embed lua/prefer.lua
	preferSource string

	linkScript     = redispipe.NewScript(edgeSource + linkSource)
	followScript   = redispipe.NewScript(edgeSource + rowsSource + followSource)
	refollowScript = redispipe.NewScript(refollowSource)
	insertScript   = redispipe.NewScript(rowsSource + insertSource)
	markScript     = redispipe.NewScript(markSource)
	restoreScript  = redispipe.NewScript(restoreSource)
	preferScript   = redispipe.NewScript(preferSource)

	allScripts = []redispipe.Script{linkScript, followScript, refollowScript, insertScript, markScript, restoreScript, preferScript}
)
