package web

import (
	"embed"
	"net/http"
)

//go:embed push
var pages embed.FS

// Handler serves the pages below /push/. They hold no secret and set no cookie.
func Handler() http.Handler {
	files := http.FileServerFS(pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		// A service worker that stays in a cache goes on with yesterday's code.
		h.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
