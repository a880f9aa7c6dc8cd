package api

import (
	"net/netip"
	"sync"
	"time"
)

const (
	guardBurst   = 20              // failed authentications an address may make at once
	guardRefill  = 3 * time.Second // until it may make one more
	guardEntries = 8192            // addresses remembered
)

// guard bounds failed authentications per address, so that guessing costs a guesser more than us.
// A token that exists is never held up by it: whoever shares an address with a guesser works on.
// The zero value is ready.
type guard struct {
	mu   sync.Mutex // guards the fields below
	full map[netip.Prefix]time.Time
}

// failed notes a failed authentication and returns how long to wait, 0 if this one was within bounds.
//
// It keeps one time per address: when its allowance will be whole again (a bucket as a clock).
func (g *guard) failed(from netip.Addr, now time.Time) time.Duration {
	p := neighbourhood(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.full == nil {
		g.full = map[netip.Prefix]time.Time{}
	}
	at := g.full[p]
	if at.Before(now) {
		at = now
	}
	if wait := at.Sub(now) - (guardBurst-1)*guardRefill; wait > 0 {
		return wait
	}
	if len(g.full) >= guardEntries {
		g.forget(now)
	}
	g.full[p] = at.Add(guardRefill)
	return 0
}

// forget drops the addresses that are whole again, or any one if none is.
func (g *guard) forget(now time.Time) {
	before := len(g.full)
	for p, at := range g.full {
		if !at.After(now) {
			delete(g.full, p)
		}
	}
	if len(g.full) < before {
		return
	}
	for p := range g.full {
		delete(g.full, p)
		return
	}
}

// neighbourhood is what counts as one address: all of an IPv6 /64 belongs to one customer.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
