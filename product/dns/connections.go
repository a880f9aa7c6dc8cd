package dns

import (
	"net/netip"
	"sync"
)

// connections counts the open TCP connections: so many in all, and no more than a quarter of them
// from one network (/24, /56), so that one client cannot keep the others out.
type connections struct {
	limit int

	mu    sync.Mutex // guards the fields below
	used  int
	byNet map[netip.Prefix]int
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, byNet: map[netip.Prefix]int{}}
}

// take counts a connection from addr, or returns false when there are too many. The host's own are
// only held to the limit of all.
func (c *connections) take(addr netip.Addr) bool {
	network := networkOf(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used >= c.limit || !addr.IsLoopback() && c.byNet[network] >= max(1, c.limit/4) {
		return false
	}
	c.used++
	c.byNet[network]++
	return true
}

// free gives back what take counted.
func (c *connections) free(addr netip.Addr) {
	network := networkOf(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used--
	if c.byNet[network]--; c.byNet[network] == 0 {
		delete(c.byNet, network)
	}
}

// count returns how many are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// networkOf is the unit in which clients are counted: who has one address of it may have all.
func networkOf(addr netip.Addr) netip.Prefix {
	bits := 56
	if addr = addr.Unmap(); addr.Is4() {
		bits = 24
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of no address at all
	}
	return p
}
