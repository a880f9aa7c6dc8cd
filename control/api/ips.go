package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"

	"selvage/product"
)

// ipRoutes need no token: what addresses the edge has is for every firewall in front of an origin.
func (a *API) ipRoutes() []entry {
	return []entry{{public: true, Route: product.Route{
		Method: "GET", Path: "/ips", Summary: "List the edge's addresses; needs no token.", Handle: a.listIPs,
	}}}
}

func (a *API) listIPs(context.Context, *product.Call) (product.Reply, error) {
	v4, v6 := []string{}, []string{}
	if a.o.Addresses != nil {
		for _, addr := range a.o.Addresses() {
			addr = addr.Unmap().WithZone("")
			p := netip.PrefixFrom(addr, addr.BitLen()).String()
			if addr.Is4() {
				v4 = append(v4, p)
				continue
			}
			v6 = append(v6, p)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{}, v4...), v6...), " ")))
	return product.Reply{Result: map[string]any{"ipv4_cidrs": v4, "ipv6_cidrs": v6, "etag": hex.EncodeToString(sum[:16])}}, nil
}
