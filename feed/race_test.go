//go:build race

package feed

// raced says that the race detector is on: it makes everything ten times slower.
const raced = true
