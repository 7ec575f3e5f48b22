package embedded

import "net"

// CutTornTail is for tests.
var CutTornTail = cutTornTail

// LookAtDisk has the watch see that many free bytes, once. The log must be started
// with a FreeEvery that does not come.
func (k *Kafka) LookAtDisk(free int64) {
	k.disk.free = func(string) (int64, error) { return free, nil }
	k.disk.look()
}

// NewGate makes a gate on a free port.
func NewGate() (l net.Listener, open func(), err error) {
	g := newGate()
	l, err = g.listen("tcp", "127.0.0.1:0")
	return l, g.open, err
}
