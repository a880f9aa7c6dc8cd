package dns

import (
	mdns "github.com/miekg/dns"
)

// maxChain is the most CNAMEs that are followed for one answer.
const maxChain = 8

// matchKind says what a zone has at a name.
type matchKind uint8

const (
	matchAbsent matchKind = iota // the name does not exist: NXDOMAIN
	matchEmpty                   // it exists without records
	matchNode                    // it has records, by itself or through a wildcard
	matchCut                     // it is at or below a delegation
)

type match struct {
	kind  matchKind
	node  *node
	label int // matchCut: the label at which the delegation begins
}

// find looks up a name of the zone as RFC 1034, 4.3.2 says, in its simplification of RFC 4592, 4.
func (z *zone) find(name []byte, offs *[128]uint8, n int, typ uint16) match {
	under := n - z.levels // labels below the apex
	if z.cuts > 0 {
		for i := under - 1; i >= 0; i-- {
			cut := z.nodes.GetBytes(name[offs[i]:])
			// The DS record of a delegation belongs to this side of it (RFC 4035, 3.1.4.1).
			if cut != nil && cut.isCut && (i > 0 || typ != mdns.TypeDS) {
				return match{kind: matchCut, node: cut, label: i}
			}
		}
	}
	if found := z.nodes.GetBytes(name); found != nil {
		return match{kind: matchNode, node: found}
	}
	if z.below.GetBytes(name) > 0 {
		return match{kind: matchEmpty}
	}
	if z.stars == 0 {
		return match{kind: matchAbsent}
	}
	return z.wildcard(name, offs, under)
}

// wildcard looks for the source of synthesis: "*" below the closest name that exists.
func (z *zone) wildcard(name []byte, offs *[128]uint8, under int) match {
	for i := 1; i <= under; i++ {
		encloser := name[offs[i]:]
		if i < under && z.nodes.GetBytes(encloser) == nil && z.below.GetBytes(encloser) == 0 {
			continue
		}
		var buf [maxName + 2]byte
		star := append(append(buf[:0], 1, '*'), encloser...)
		if found := z.nodes.GetBytes(star); found != nil {
			return match{kind: matchNode, node: found}
		}
		if z.below.GetBytes(star) > 0 {
			return match{kind: matchEmpty}
		}
		break
	}
	return match{kind: matchAbsent}
}

// ask answers a.q into a.r.
func (a *responder) ask() {
	switch {
	case a.q.qclass == mdns.ClassCHAOS:
		a.chaos()
		return
	case a.q.qtype == mdns.TypeOPT:
		a.r.fail(mdns.RcodeFormatError)
		return
	case a.q.qclass != mdns.ClassINET, a.q.qtype == mdns.TypeAXFR, a.q.qtype == mdns.TypeIXFR:
		a.r.fail(mdns.RcodeRefused)
		return
	}
	a.name, a.offs, a.labels = a.q.name, &a.q.offs, a.q.labels
	z := a.table.zoneOf(a.name, a.offs, a.labels, 0)
	if z == nil {
		a.r.fail(mdns.RcodeRefused)
		return
	}
	if a.q.qtype == mdns.TypeDS && a.labels == z.levels {
		if parent := a.table.zoneOf(a.name, a.offs, a.labels, 1); parent != nil {
			z = parent
		}
	}
	a.r.aa = true
	a.walk(z)
}

// walk answers the question from z and follows its CNAMEs.
func (a *responder) walk(z *zone) {
	at := headerSize // where a.name stands in the message
	base := at + int(a.offs[a.labels-z.levels])
	for hop := 0; ; hop++ {
		a.zone = z
		m := z.find(a.name, a.offs, a.labels, a.q.qtype)
		switch m.kind {
		case matchAbsent:
			a.r.rcode = mdns.RcodeNameError
			fallthrough
		case matchEmpty:
			a.deny(base)
			return
		case matchCut:
			a.refer(m.node, at+int(a.offs[m.label]), base)
			return
		}
		alias := a.give(m.node, at, base)
		if alias == nil || hop == maxChain {
			return
		}
		at = len(a.r.out) - len(alias.wire) + int(alias.targets[0].at)
		a.follow(alias.targets[0].name)
		next := a.table.zoneOf(a.name, a.offs, a.labels, 0)
		if next == nil {
			return
		}
		if next != z {
			// The target was written in full, or from a zone above: next's name stands there.
			base = at + int(a.offs[a.labels-next.levels])
		}
		z = next
	}
}

// follow makes name the one to answer.
func (a *responder) follow(name string) {
	a.name = a.aliased.name[:copy(a.aliased.name[:], name)]
	a.offs = &a.aliased.offs
	a.labels = labels(a.name, a.offs)
}

// give writes what a node has for the question's type. It returns the CNAME to follow, if any.
func (a *responder) give(n *node, owner, base int) *rrset {
	typ := a.q.qtype
	if a.labels == a.zone.levels && (typ == mdns.TypeSOA || typ == mdns.TypeNS && a.zone.ns != nil) {
		a.apex(typ, owner, base)
		return nil
	}
	if typ == mdns.TypeANY {
		a.r.must(sectionAnswer, a.table.any, owner, base, ownTTL)
		return nil
	}
	if s := n.set(typ); s != nil {
		a.r.must(sectionAnswer, s, owner, base, ownTTL)
		return nil
	}
	if s := a.table.edge.set(typ, n.edge); s != nil {
		a.r.must(sectionAnswer, s, owner, base, ownTTL)
		return nil
	}
	if n.flat != nil && (typ == mdns.TypeA || typ == mdns.TypeAAAA) {
		a.flatten(n.flat, owner, base)
		return nil
	}
	// RRSIG and NSEC stand beside a CNAME, so it says nothing about them (RFC 4035, 2.5).
	if s := n.set(mdns.TypeCNAME); s != nil && typ != mdns.TypeRRSIG && typ != mdns.TypeNSEC {
		a.r.must(sectionAnswer, s, owner, base, ownTTL)
		if a.r.truncated {
			return nil
		}
		return s
	}
	a.deny(base)
	return nil
}

// apex answers for SOA and NS of the zone, with the addresses of name servers inside it.
func (a *responder) apex(typ uint16, owner, base int) {
	if typ == mdns.TypeSOA {
		a.r.must(sectionAnswer, a.zone.soa, owner, base, ownTTL)
		return
	}
	at := len(a.r.out)
	a.r.must(sectionAnswer, a.zone.ns, owner, base, ownTTL)
	if !a.r.truncated {
		a.glue(a.zone.ns, at, base)
	}
}

// refer sends the client to the name servers of a delegation (RFC 1034, 4.3.2, 3b). Answers
// without the glue that they need are truncated (RFC 9471).
func (a *responder) refer(cut *node, owner, base int) {
	a.r.aa = a.r.sections[sectionAnswer] > 0
	ns := cut.set(mdns.TypeNS)
	at := len(a.r.out)
	a.r.must(sectionAuthority, ns, owner, base, ownTTL)
	if !a.r.truncated && !a.glue(ns, at, base) {
		a.r.truncated = true
	}
}

// glue adds the addresses of name servers in a.zone; ns stands at at. False: no room for all.
func (a *responder) glue(ns *rrset, at, base int) bool {
	whole := true
	for _, t := range ns.targets {
		n := a.zone.nodes.Get(t.name)
		if n == nil {
			continue
		}
		for _, typ := range [...]uint16{mdns.TypeA, mdns.TypeAAAA} {
			s := n.set(typ)
			if s == nil {
				s = a.table.edge.set(typ, n.edge)
			}
			if s != nil && !a.r.add(sectionAdditional, s, at+int(t.at), base, ownTTL) {
				whole = false
			}
		}
	}
	return whole
}

// deny says that there is nothing, for as long as the SOA record says (RFC 2308).
func (a *responder) deny(base int) {
	a.r.must(sectionAuthority, a.zone.soa, base, base, soaMinimum)
}

// flatten answers with the addresses of a CNAME's target.
func (a *responder) flatten(f *flat, owner, base int) {
	got := a.table.chase(f.target, a.q.qtype)
	if got.outside != "" {
		got = a.server.outside.lookup(got.outside, a.q.qtype, got.ttl)
	}
	switch {
	case !got.known:
		a.r.fail(mdns.RcodeServerFailure)
	case got.set == nil:
		a.deny(base)
	case f.ttl > 0:
		a.r.must(sectionAnswer, got.set, owner, base, min(f.ttl, got.ttl))
	default:
		a.r.must(sectionAnswer, got.set, owner, base, got.ttl)
	}
}

// chaos answers the one question of class CHAOS that monitoring tools ask: what this is.
func (a *responder) chaos() {
	name := string(a.q.name)
	if a.q.qtype != mdns.TypeTXT || name != "\x07version\x04bind\x00" && name != "\x07version\x06server\x00" {
		a.r.fail(mdns.RcodeRefused)
		return
	}
	a.r.aa = true
	a.r.must(sectionAnswer, a.table.version, headerSize, headerSize, ownTTL)
}
