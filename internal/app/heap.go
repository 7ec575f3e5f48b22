package app

// heapFloor is how large the heap counts as at least. The collector runs each time
// the heap has doubled, and what our services keep is small (15 MB at 100,000
// deliveries a second) beside what they use once: they collected twice a second,
// and calls that met a collection took several times as long. With the floor they
// collect once in four, and the process takes at most this much memory more.
const heapFloor = 128 << 20

// HeapFloor is memory that is reserved but never touched, so that the operating system
// gives none for it. Keep it alive as long as the program runs.
type HeapFloor struct{ reserved []byte }

// NewHeapFloor makes collections rarer while the heap is small; a large heap hardly
// notices it. Who has set GOGC or GOMEMLIMIT has decided for themselves: then it does
// nothing. Memory statistics of the runtime count the floor as used.
func NewHeapFloor(getenv func(string) string) HeapFloor {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return HeapFloor{}
	}
	return HeapFloor{make([]byte, heapFloor)}
}
