package edge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
)

// Guard keeps what customers' programs connect to away from networks that are the operator's:
// server-side request forgery ends here. It judges addresses, not names, right before they are
// dialled, so no answer of a resolver gets past it.
type Guard struct {
	// Own tells whether an address is a listener of this node. Those are refused even where an
	// operator allows their network; nil knows none.
	Own func(netip.AddrPort) bool
}

// Check returns nil if a program may connect to a, and a Failure that says why if not. allowed are
// the networks that an operator opened for it beside the public internet.
func (g Guard) Check(a netip.AddrPort, allowed []netip.Prefix) error {
	addr := a.Addr().Unmap()
	switch {
	case a.Port() == 25:
		return refuseAddress(a, "port 25 is closed, for it would make this edge a source of spam")
	case g.Own != nil && g.Own(netip.AddrPortFrom(addr, a.Port())):
		return refuseAddress(a, "it is this edge itself")
	case addr.Zone() != "":
		return refuseAddress(a, "it belongs to one link")
	}
	for _, p := range allowed {
		if p.Contains(addr) {
			return nil
		}
	}
	if !Public(addr) {
		return refuseAddress(a, "it is not on the public internet")
	}
	return nil
}

// refuseAddress does not tell the address: names of the inside are no business of a customer's.
func refuseAddress(a netip.AddrPort, why string) error {
	return &Failure{Status: http.StatusForbidden, Code: 1003, Reason: "address_refused", Cause: fmt.Errorf("connect to %s", a),
		Detail: "Programs here may not connect to this address: " + why + ". The operator can open a network for an account."}
}

// Public tells whether an address belongs to the public internet: not to this machine, a private or
// provider's network, a link, a group, documentation, nor to a reserved block (the registries of
// RFC 6890). An address that carries an IPv4 address in it (mapped, NAT64, 6to4) is what that is.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is4() {
		return !within(a, closed4)
	}
	if inner, ok := embedded(a); ok {
		return Public(inner)
	}
	return open6.Contains(a) && !within(a, closed6)
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a translator or a tunnel would make of a.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	open6     = netip.MustParsePrefix("2000::/3") // all that is given out

	closed4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	)
	closed6 = prefixes(
		"2001::/23", // Teredo, benchmarks, ORCHID
		"2001:db8::/32", "3fff::/20",
	)
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Listeners returns a function for Guard.Own that knows listeners by their addresses. One that
// listens on all addresses owns its port on every address of this machine.
func Listeners(addrs ...net.Addr) func(netip.AddrPort) bool {
	var own []netip.AddrPort
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			own = append(own, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
	return func(a netip.AddrPort) bool {
		for _, o := range own {
			if o.Port() == a.Port() && (o.Addr() == a.Addr() || o.Addr().IsUnspecified() && local(a.Addr())) {
				return true
			}
		}
		return false
	}
}

// local tells whether an address is one of this machine's. It is asked rarely, and addresses of
// interfaces change, so it looks each time.
func local(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

// permitted leaves those of addrs that t.Permit lets through; if there is none, its word about the
// first.
func (t *Target) permitted(addrs []netip.Addr) ([]netip.Addr, error) {
	var first error
	var kept []netip.Addr
	for _, a := range addrs {
		err := t.Permit(netip.AddrPortFrom(a, t.Port))
		if err == nil {
			kept = append(kept, a)
		} else if first == nil {
			first = err
		}
	}
	if len(kept) == 0 {
		return nil, first
	}
	return kept, nil
}
