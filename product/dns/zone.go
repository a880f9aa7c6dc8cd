package dns

import (
	"fmt"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"selvage/foundation/hamt"
	"selvage/spec"
)

// Times of the SOA record, in seconds (RFC 1035, 3.3.13). The last is also how long the absence of
// a name or type may be remembered (RFC 2308).
const (
	soaTTL     = 1800
	soaRefresh = 10000
	soaRetry   = 2400
	soaExpire  = 604800
	soaMinimum = 1800

	apexNSTTL = 86400
	autoTTL   = 300 // of records whose TTL is 1, automatic
)

// zone is one zone ready to be answered from. Immutable once compiled.
type zone struct {
	name   string // in wire form
	config *spec.ZoneConfig
	levels int // labels in name

	nodes hamt.Map[*node] // by owner name in wire form
	// below counts, for each name between the apex and a node, the nodes below it: these names
	// exist, though they may have no records (empty non-terminals, RFC 4592, 2.2.2).
	below hamt.Map[int]
	cuts  int // nodes that are delegations; none saves the search for them
	stars int // nodes with a label "*"; none saves the search for wildcards

	soa *rrset
	ns  *rrset // the zone's name servers and further NS records of the apex; nil if there are none
	// servers are the name servers inside the zone: without records of their own they have the
	// node's addresses.
	servers map[string]bool
	// flats are the names whose CNAME is resolved here (CNAME flattening).
	flats hamt.Map[*flat]
}

// zoneEdit is a zone in the making.
type zoneEdit struct {
	*zone
	nodes *hamt.Edit[*node]
	below *hamt.Edit[int]
	flats *hamt.Edit[*flat]
}

// node is what stands at one name.
type node struct {
	sets  []*rrset
	edge  edgeBits
	flat  *flat
	isCut bool // NS below the apex: what is at and below the name is somebody else's
}

// flat is a CNAME that answers with its target's addresses.
type flat struct {
	target string // in wire form
	ttl    uint32 // at most; 0 leaves it to the target
}

// edgeBits say which of the edge's own records a name answers with.
type edgeBits uint8

const (
	edgeIPv4 edgeBits = 1 << iota
	edgeIPv6
	edgeHTTPS // an HTTPS record, unless the user has one
)

func (n *node) set(typ uint16) *rrset {
	for _, s := range n.sets {
		if s.typ == typ {
			return s
		}
	}
	return nil
}

// compile makes a zone of its configuration. Names whose records are the same as in old are taken
// over from it, so that a change in a large zone costs little; old may be nil.
func compile(old *zone, config *spec.ZoneConfig) (*zone, error) {
	name, err := wireName(config.Zone.Name)
	if err != nil {
		return nil, fmt.Errorf("zone name %q: %w", config.Zone.Name, err)
	}
	z := &zone{name: name, config: config, levels: strings.Count(config.Zone.Name, ".") + 1}
	var before []*spec.Record
	same := old != nil && sameGround(old.config, config)
	if same {
		z.nodes, z.below, z.flats = old.nodes, old.below, old.flats
		z.cuts, z.stars, z.servers = old.cuts, old.stars, old.servers
		before = old.config.Records
	}
	e := &zoneEdit{zone: z, nodes: z.nodes.Edit(), below: z.below.Edit(), flats: z.flats.Edit()}
	if !same {
		if err := e.addServers(); err != nil {
			return nil, err
		}
	}
	for owner, records := range spec.ChangedNames(before, config.Records) {
		if err := e.replace(owner, records); err != nil {
			return nil, fmt.Errorf("%s: %w", owner, err)
		}
	}
	if e.nodes.Get(z.name) == nil {
		e.put(z.name, &node{}) // the apex exists without records of its own: it has SOA and NS
	}
	z.nodes, z.below, z.flats = e.nodes.Map(), e.below.Map(), e.flats.Map()
	return z, z.encodeApex()
}

// sameGround tells whether nodes of the one configuration are good for the other.
func sameGround(a, b *spec.ZoneConfig) bool {
	return a.Zone.Name == b.Zone.Name && a.Zone.Paused == b.Zone.Paused && slices.Equal(a.Zone.NameServers, b.Zone.NameServers) &&
		offersHTTPS(a) == offersHTTPS(b)
}

// addServers gives the name servers inside the zone a node.
func (e *zoneEdit) addServers() error {
	e.servers = map[string]bool{}
	for _, s := range e.config.Zone.NameServers {
		name, err := wireName(strings.ToLower(s))
		if err != nil {
			return fmt.Errorf("name server %q: %w", s, err)
		}
		if !inWireZone(name, e.name) {
			continue
		}
		e.servers[name] = true
		e.put(name, &node{edge: edgeIPv4 | edgeIPv6})
	}
	return nil
}

// replace compiles the records of one name and puts them in the place of what was there.
func (e *zoneEdit) replace(owner string, records []*spec.Record) error {
	name, err := wireName(owner)
	if err != nil {
		return err
	}
	if !inWireZone(name, e.name) {
		return fmt.Errorf("the name is outside of zone %s", e.config.Zone.Name)
	}
	n, err := e.compileNode(name, records)
	if err != nil {
		return err
	}
	e.put(name, n)
	return nil
}

// put sets the node of a name, or removes it if n is nil, and keeps the counts right.
func (e *zoneEdit) put(name string, n *node) {
	old := e.nodes.Get(name)
	if old != nil {
		e.count(name, old, -1)
		e.nodes.Delete(name)
		e.flats.Delete(name)
	}
	if n == nil {
		return
	}
	e.count(name, n, 1)
	e.nodes.Set(name, n)
	if n.flat != nil {
		e.flats.Set(name, n.flat)
	}
}

func (e *zoneEdit) count(name string, n *node, by int) {
	if n.isCut {
		e.cuts += by
	}
	if strings.Contains(name, "\x01*") {
		e.stars += by
	}
	if name == e.name {
		return
	}
	for parent := name[name[0]+1:]; parent != e.name; parent = parent[parent[0]+1:] {
		if n := e.below.Get(parent) + by; n != 0 {
			e.below.Set(parent, n)
		} else {
			e.below.Delete(parent)
		}
	}
}

// compileNode returns nil if nothing stands at the name.
func (z *zone) compileNode(name string, records []*spec.Record) (*node, error) {
	n := &node{edge: z.edgeOf(records)}
	if z.servers[name] && n.edge == 0 && !slices.ContainsFunc(records, (*spec.Record).Proxiable) {
		n.edge = edgeIPv4 | edgeIPv6
	}
	apex := name == z.name
	for len(records) > 0 {
		typ := records[0].Type
		group := 1
		for group < len(records) && records[group].Type == typ {
			group++
		}
		switch {
		case n.edge != 0 && records[0].Proxiable():
		case typ == "CNAME" && (apex || records[0].Settings.FlattenCNAME):
			n.flat = flatOf(records[0])
		case apex && typ == "NS": // belongs to the apex set
		default:
			set, err := z.encodeSet(records[:group])
			if err != nil {
				return nil, err
			}
			n.sets = append(n.sets, set)
			n.isCut = n.isCut || typ == "NS"
		}
		records = records[group:]
	}
	if len(n.sets) == 0 && n.edge == 0 && n.flat == nil {
		return nil, nil
	}
	return n, nil
}

// edgeOf tells how a name with these records is served through the edge: one proxied address or
// CNAME makes all of them so.
func (z *zone) edgeOf(records []*spec.Record) edgeBits {
	var bits edgeBits
	if z.config.Zone.Paused {
		return 0
	}
	for _, r := range records {
		switch {
		case !r.Proxied || !r.Proxiable():
		case r.Settings.IPv4Only:
			bits |= edgeIPv4
		case r.Settings.IPv6Only:
			bits |= edgeIPv6
		default:
			bits |= edgeIPv4 | edgeIPv6
		}
	}
	if bits != 0 && offersHTTPS(z.config) {
		bits |= edgeHTTPS
	}
	return bits
}

// offersHTTPS tells whether the zone is served over TLS with HTTP/2, which is what a synthesised
// HTTPS record promises.
func offersHTTPS(config *spec.ZoneConfig) bool {
	return config.Settings.Text("ssl") != "off" && config.Settings.On("http2")
}

func flatOf(r *spec.Record) *flat {
	// The content has been checked when the record was made; what cannot be read resolves to nothing.
	c, err := readContent(r.Type, r.Content, nil, "")
	if err != nil {
		return &flat{}
	}
	f := &flat{target: c.values[0].octets}
	if r.TTL > 1 {
		f.ttl = uint32(r.TTL)
	}
	return f
}

// encodeSet encodes records of one name and type. Their TTL is the least of them (RFC 2181, 5.2).
func (z *zone) encodeSet(records []*spec.Record) (*rrset, error) {
	f := formats[records[0].Type]
	if f == nil {
		return nil, fmt.Errorf("no records of type %.20q exist here", records[0].Type)
	}
	ttl := uint32(86400)
	for _, r := range records {
		ttl = min(ttl, recordTTL(r))
	}
	e := newEncoder(z.name, f.typ, ttl)
	for _, r := range records {
		c, err := readContent(r.Type, r.Content, r.Priority, z.config.Zone.Name)
		if err != nil {
			return nil, err
		}
		if err := c.encode(e); err != nil {
			return nil, err
		}
	}
	return e.done(), nil
}

func recordTTL(r *spec.Record) uint32 {
	if r.TTL <= 1 {
		return autoTTL
	}
	return uint32(r.TTL)
}

// encodeApex makes the SOA record and the NS records of the apex.
func (z *zone) encodeApex() error {
	primary := z.name
	ns := newEncoder(z.name, mdns.TypeNS, apexNSTTL)
	seen := map[string]bool{}
	add := func(server string) error {
		name, err := wireName(strings.ToLower(server))
		if err != nil || seen[name] {
			return err
		}
		seen[name] = true
		if len(seen) == 1 {
			primary = name
		}
		at := ns.begin()
		ns.name(name)
		return ns.end(at)
	}
	for _, s := range z.config.Zone.NameServers {
		if err := add(s); err != nil {
			return fmt.Errorf("name server %q: %w", s, err)
		}
	}
	for _, r := range spec.RecordsOf(z.config.Records, z.config.Zone.Name) {
		if r.Type != "NS" {
			continue
		}
		if err := add(r.Content); err != nil {
			return fmt.Errorf("NS record %q: %w", r.Content, err)
		}
	}
	if len(seen) > 0 {
		z.ns = ns.done()
	}
	soa := newEncoder(z.name, mdns.TypeSOA, soaTTL)
	at := soa.begin()
	soa.name(primary)
	soa.name(mailbox(z.name))
	for _, n := range []uint32{serial(z.config), soaRefresh, soaRetry, soaExpire, soaMinimum} {
		soa.raw(byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	if err := soa.end(at); err != nil {
		return err
	}
	z.soa = soa.done()
	return nil
}

// mailbox is who answers for the zone (RFC 2142, section 7), the zone itself if that is too long.
func mailbox(zone string) string {
	const user = "\x0ahostmaster"
	if len(user)+len(zone) > maxName {
		return zone
	}
	return user + zone
}

// serial grows with every change of the zone (RFC 1912, 2.2).
func serial(config *spec.ZoneConfig) uint32 { return uint32(config.Version) }
