package dns

import (
	"net/netip"

	mdns "github.com/miekg/dns"

	"selvage/foundation/hamt"
	"selvage/spec"
)

// table is everything that is answered from. Immutable.
type table struct {
	zones   hamt.Map[*zone] // by name in wire form
	from    *spec.Snapshot  // that the zones were compiled from
	byID    hamt.Map[*zone]
	flat    hamt.Map[*zone] // by name, those with flattened CNAMEs
	deepest int             // labels of the zone with the most
	edge    edgeSets
	any     *rrset // the answer to ANY (RFC 8482)
	version *rrset // the answer to version.bind
}

func newTable() *table {
	hinfo := newEncoder("", mdns.TypeHINFO, 3789)
	at := hinfo.begin()
	hinfo.strings("RFC8482")
	hinfo.strings("")
	// These two are far below the size that end checks.
	hinfo.end(at)
	version := newEncoder("", mdns.TypeTXT, 0)
	at = version.begin()
	version.strings("selvage")
	version.end(at)
	version.set.wire[5] = mdns.ClassCHAOS // after pointer and type
	return &table{from: spec.NewSnapshot(), any: hinfo.done(), version: version.done()}
}

// tableEdit is a table in the making.
type tableEdit struct {
	zones, byID, flat *hamt.Edit[*zone]
	deepest           int
}

func (t *table) edit() *tableEdit {
	return &tableEdit{zones: t.zones.Edit(), byID: t.byID.Edit(), flat: t.flat.Edit(), deepest: t.deepest}
}

func (e *tableEdit) remove(z *zone) {
	e.zones.Delete(z.name)
	e.byID.Delete(z.config.Zone.ID)
	e.flat.Delete(z.name)
}

func (e *tableEdit) add(z *zone) {
	e.zones.Set(z.name, z)
	e.byID.Set(z.config.Zone.ID, z)
	if z.flats.Len() > 0 {
		e.flat.Set(z.name, z)
	}
	e.deepest = max(e.deepest, z.levels)
}

// zoneOf returns the deepest zone that a name is in, leaving out its first skip labels; nil if the
// name is in none of ours.
func (t *table) zoneOf(name []byte, offs *[128]uint8, n, skip int) *zone {
	for i := max(skip, n-t.deepest); i < n; i++ {
		if z := t.zones.GetBytes(name[offs[i]:]); z != nil {
			return z
		}
	}
	return nil
}

// resolved is what a flattened CNAME leads to.
type resolved struct {
	set     *rrset // nil if there are no such records
	ttl     uint32 // the least on the way
	known   bool
	outside string // the name at which the chain leaves our zones, in wire form
}

// chase follows a name through our own zones to its addresses.
func (t *table) chase(name string, typ uint16) resolved {
	var buf [maxName]byte
	var offs [128]uint8
	ttl := ownTTL
	for range maxChain {
		wire := buf[:copy(buf[:], name)]
		n := labels(wire, &offs)
		z := t.zoneOf(wire, &offs, n, 0)
		if z == nil {
			return resolved{outside: name, ttl: ttl}
		}
		m := z.find(wire, &offs, n, typ)
		switch m.kind {
		case matchCut:
			return resolved{outside: name, ttl: ttl}
		case matchAbsent, matchEmpty:
			return resolved{known: true}
		}
		if s := m.node.set(typ); s != nil {
			return resolved{set: s, ttl: min(ttl, s.ttl), known: true}
		}
		if s := t.edge.set(typ, m.node.edge); s != nil {
			return resolved{set: s, ttl: min(ttl, s.ttl), known: true}
		}
		alias := m.node.set(mdns.TypeCNAME)
		switch {
		case m.node.flat != nil:
			name = m.node.flat.target
			if m.node.flat.ttl > 0 {
				ttl = min(ttl, m.node.flat.ttl)
			}
		case alias != nil:
			name, ttl = alias.targets[0].name, min(ttl, alias.ttl)
		default:
			return resolved{known: true}
		}
	}
	return resolved{} // a loop
}

// outsideNames are the names outside our zones that flattened CNAMEs lead to.
func (t *table) outsideNames() map[string]bool {
	names := map[string]bool{}
	for _, z := range t.flat.All() {
		for _, f := range z.flats.All() {
			if end := t.chase(f.target, mdns.TypeA).outside; end != "" {
				names[end] = true
			}
		}
	}
	return names
}

// edgeSets are the records that proxied names answer with: the edge's addresses.
type edgeSets struct {
	addrs []netip.Addr // what they were made of
	a     *rrset       // nil if the edge has no such address
	aaaa  *rrset
	// https by the addresses it hints at: one entry for each combination of edgeIPv4 and edgeIPv6.
	https [4]*rrset
}

// newEdgeSets encodes the edge's addresses. Without alpn there are no HTTPS records.
func newEdgeSets(addrs []netip.Addr, alpn []string) edgeSets {
	e := edgeSets{addrs: addrs}
	a, aaaa := newEncoder("", mdns.TypeA, autoTTL), newEncoder("", mdns.TypeAAAA, autoTTL)
	var v4, v6 []byte
	for _, addr := range addrs {
		addr = addr.Unmap()
		enc := a
		if addr.Is6() {
			enc = aaaa
			v6 = append(v6, addr.AsSlice()...)
		} else {
			v4 = append(v4, addr.AsSlice()...)
		}
		at := enc.begin()
		enc.raw(addr.AsSlice()...)
		if enc.end(at) != nil {
			return edgeSets{addrs: addrs} // thousands of addresses: none can be answered
		}
	}
	if v4 != nil {
		e.a = a.done()
	}
	if v6 != nil {
		e.aaaa = aaaa.done()
	}
	if len(alpn) > 0 {
		e.https[edgeIPv4] = newHTTPS(alpn, v4, nil)
		e.https[edgeIPv6] = newHTTPS(alpn, nil, v6)
		e.https[edgeIPv4|edgeIPv6] = newHTTPS(alpn, v4, v6)
	}
	return e
}

// newHTTPS encodes `1 . alpn=... ipv4hint=... ipv6hint=...` (RFC 9460).
func newHTTPS(alpn []string, v4, v6 []byte) *rrset {
	e := newEncoder("", mdns.TypeHTTPS, autoTTL)
	at := e.begin()
	e.raw(0, 1, 0) // priority 1, target the owner itself
	var ids []byte
	for _, id := range alpn {
		ids = append(append(ids, byte(len(id))), id...)
	}
	for _, p := range []struct {
		key   mdns.SVCBKey
		value []byte
	}{{mdns.SVCB_ALPN, ids}, {mdns.SVCB_IPV4HINT, v4}, {mdns.SVCB_IPV6HINT, v6}} {
		if len(p.value) > 0 {
			e.raw(byte(p.key>>8), byte(p.key), byte(len(p.value)>>8), byte(len(p.value)))
			e.raw(p.value...)
		}
	}
	if e.end(at) != nil {
		return nil
	}
	return e.done()
}

// set returns the edge's records of a type for a name with these bits, or nil.
func (e *edgeSets) set(typ uint16, bits edgeBits) *rrset {
	switch {
	case bits == 0:
		return nil
	case typ == mdns.TypeA && bits&edgeIPv4 != 0:
		return e.a
	case typ == mdns.TypeAAAA && bits&edgeIPv6 != 0:
		return e.aaaa
	case typ == mdns.TypeHTTPS && bits&edgeHTTPS != 0:
		return e.https[bits&(edgeIPv4|edgeIPv6)]
	}
	return nil
}
