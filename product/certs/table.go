package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"slices"
	"strings"

	"selvage/foundation/hamt"
	"selvage/spec"
)

// source says where a certificate comes from; a smaller one is preferred.
type source uint8

const (
	custom source = iota
	acmeServer
	localLeaf
	sources
)

var sourceNames = [sources]string{"custom", "acme", "local"}

// table is what the hot path reads: immutable, replaced as a whole.
type table struct {
	zones   hamt.Map[*zoneTable] // by zone name
	from    *spec.Snapshot       // that it was compiled from
	revoked map[string]struct{}  // serials of revoked origin certificates
}

// zoneTable is one compiled zone. Immutable but for the slots' key pairs.
type zoneTable struct {
	config *spec.ZoneConfig
	stored []*slot         // every certificate of the zone, best first
	exact  names           // by host
	wild   names           // by the name below the "*."
	apex   *slot           // of the local CA: the zone's name and one level below
	deep   hamt.Map[*slot] // of the local CA: by host two levels below, or by "*." and its parent
	policy policy
}

// names is a small map, sorted by name: most zones have one or two, for which Go's map costs 400
// bytes.
type names []candidates

// candidates are the certificates that cover one name, best first.
type candidates struct {
	name  string
	slots []*slot
}

func (n names) find(name string) []*slot {
	i, ok := slices.BinarySearchFunc(n, name, func(c candidates, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return nil
	}
	return n[i].slots
}

func (n *names) add(name string, s *slot) {
	i, ok := slices.BinarySearchFunc(*n, name, func(c candidates, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		*n = slices.Insert(*n, i, candidates{name: name})
	}
	(*n)[i].slots = append((*n)[i].slots, s)
}

// compile builds the table of next and takes over from prev what did not change.
func compile(next *spec.Snapshot, prev *table) *table {
	t := &table{from: next, revoked: revokedSerials(next)}
	var changed []*spec.ZoneConfig
	same := true
	for id, config := range next.Changed(prev.from) {
		old := prev.from.Zones[id]
		changed = append(changed, config)
		same = same && config != nil && old != nil && old.Zone.Name == config.Zone.Name && inService(old.Zone) == inService(config.Zone)
	}
	if same {
		// The usual case: nothing came, went or changed its standing, so who is served stays.
		e := prev.zones.Edit()
		for _, config := range changed {
			if z := e.Get(config.Zone.Name); z.config.Zone.ID == config.Zone.ID {
				e.Set(config.Zone.Name, compileZone(config, z))
			}
		}
		t.zones = e.Map()
		return t
	}
	e := hamt.Map[*zoneTable]{}.Edit()
	for _, config := range next.Zones {
		name := config.Zone.Name
		if other := e.Get(name); other != nil && !before(config.Zone, other.config.Zone) {
			continue
		}
		z := prev.zones.Get(name)
		if z == nil || z.config != config {
			z = compileZone(config, z)
		}
		e.Set(name, z)
	}
	t.zones = e.Map()
	return t
}

// before tells which of two zones of one name is served, by the same rule as product/proxy: the one
// in service, else the one with the smaller ID.
func before(a, b *spec.Zone) bool {
	if inService(a) != inService(b) {
		return inService(a)
	}
	return a.ID < b.ID
}

func inService(z *spec.Zone) bool { return z.Status == "active" && !z.Paused }

func revokedSerials(s *spec.Snapshot) map[string]struct{} {
	var revoked map[string]struct{}
	for _, o := range s.Origins {
		if o.RevokedAt.IsZero() {
			continue
		}
		if revoked == nil {
			revoked = map[string]struct{}{}
		}
		revoked[o.Serial] = struct{}{}
	}
	return revoked
}

// compileZone compiles one zone. Key pairs that old has ready stay ready, as far as old belongs to
// the same zone.
func compileZone(config *spec.ZoneConfig, old *zoneTable) *zoneTable {
	if old == nil || old.config.Zone.ID != config.Zone.ID {
		old = &zoneTable{config: &spec.ZoneConfig{Zone: &spec.Zone{}}}
	}
	z := &zoneTable{config: config, apex: old.apex, policy: policyOf(config.Settings)}
	if z.apex == nil {
		z.apex = &slot{source: localLeaf, local: config.Zone.Name, apex: true}
	}
	for _, cert := range config.Certificates {
		i := slices.IndexFunc(old.stored, func(s *slot) bool { return s.stored == cert })
		if i >= 0 {
			z.stored = append(z.stored, old.stored[i])
			continue
		}
		z.stored = append(z.stored, newSlot(cert))
	}
	slices.SortStableFunc(z.stored, compareSlots)
	for _, s := range z.stored {
		for _, host := range s.stored.Hosts {
			z.add(host, s)
		}
	}
	z.deep = compileDeep(config, old)
	return z
}

// add files a certificate under one of its names.
func (z *zoneTable) add(host string, s *slot) {
	host = strings.ToLower(host)
	if !spec.InZone(strings.TrimPrefix(host, "*."), z.config.Zone.Name) {
		return
	}
	if parent, is := strings.CutPrefix(host, "*."); is {
		z.wild.add(parent, s)
		return
	}
	z.exact.add(host, s)
}

// compileDeep lists the proxied hosts that "*.zone" does not cover: the local CA issues for no
// others, so a stranger's SNI cannot make it work.
func compileDeep(config *spec.ZoneConfig, old *zoneTable) hamt.Map[*slot] {
	e := old.deep.Edit()
	for name, records := range spec.ChangedNames(old.config.Records, config.Records) {
		switch {
		case oneBelow(name, config.Zone.Name):
		case !slices.ContainsFunc(records, func(r *spec.Record) bool { return r.Proxied && r.Proxiable() }):
			e.Delete(name)
		case e.Get(name) == nil:
			e.Set(name, &slot{source: localLeaf, local: name})
		}
	}
	return e.Map()
}

// oneBelow tells whether "*.zone" or zone itself covers name.
func oneBelow(name, zone string) bool {
	rest, below := strings.CutSuffix(name, "."+zone)
	return name == zone || below && !strings.Contains(rest, ".")
}

// compareSlots orders certificates that cover the same name: uploads before ACME, higher priority
// first, ECDSA before RSA, then the one that lives longest.
func compareSlots(a, b *slot) int {
	if a.source != b.source {
		return int(a.source) - int(b.source)
	}
	if a.stored.Priority != b.stored.Priority {
		return b.stored.Priority - a.stored.Priority
	}
	if a.rsa != b.rsa {
		if b.rsa {
			return -1
		}
		return 1
	}
	return b.stored.ExpiresOn.Compare(a.stored.ExpiresOn)
}

// zone returns the zone with the longest name that host is in, or nil. A zone below another one,
// perhaps of another account, is never served with its parent's certificates.
func (t *table) zone(host string) *zoneTable {
	for {
		if z := t.zones.Get(host); z != nil {
			return z
		}
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
	}
}

// pick chooses for a host of z: exact names before wildcards, and what is stored before the local
// CA. Expired and unreadable certificates are passed over.
func (c *Certs) pick(z *zoneTable, host string, hello *tls.ClientHelloInfo) *tls.Certificate {
	now := c.clock.Now().Unix()
	if cert := c.best(z.exact.find(host), hello, now); cert != nil {
		return cert
	}
	var parent string
	if i := strings.IndexByte(host, '.'); i > 0 {
		parent = host[i+1:]
	}
	if cert := c.best(z.wild.find(parent), hello, now); cert != nil {
		return cert
	}
	s := z.localSlot(host, parent)
	if s == nil {
		return nil
	}
	cert, err := c.ring.get(s, now)
	if err != nil {
		c.observe.Logger().Error("local ca cannot issue", "zone", z.config.Zone.Name, "error", err)
		return nil
	}
	c.metrics.chosen[localLeaf].Inc()
	return cert
}

// best returns the first of slots that works for the client, else the first that works at all:
// the client then says itself what it lacks.
func (c *Certs) best(slots []*slot, hello *tls.ClientHelloInfo, now int64) *tls.Certificate {
	var fallback *tls.Certificate
	var from source
	for _, s := range slots {
		if now >= s.until {
			continue
		}
		cert, err := c.ring.get(s, now)
		if err != nil {
			c.metrics.unreadable.Inc()
			continue
		}
		if len(slots) == 1 || fits(cert, hello) {
			c.metrics.chosen[s.source].Inc()
			return cert
		}
		if fallback == nil {
			fallback, from = cert, s.source
		}
	}
	if fallback != nil {
		c.metrics.chosen[from].Inc()
	}
	return fallback
}

// fits tells whether the client can do with cert. In TLS 1.3 the signature schemes say it all, and
// looking for one allocates nothing.
func fits(cert *tls.Certificate, hello *tls.ClientHelloInfo) bool {
	if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		if scheme := schemeOf(cert.Leaf.PublicKey); scheme != 0 && slices.Contains(hello.SignatureSchemes, scheme) {
			return true
		}
	}
	return hello.SupportsCertificate(cert) == nil
}

// schemeOf returns the first scheme that a key signs TLS 1.3 handshakes with, 0 if unknown.
func schemeOf(public any) tls.SignatureScheme {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return tls.PSSWithSHA256
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return tls.ECDSAWithP256AndSHA256
		case elliptic.P384():
			return tls.ECDSAWithP384AndSHA384
		}
	}
	return 0
}

// localSlot returns what the local CA may issue for host, or nil.
func (z *zoneTable) localSlot(host, parent string) *slot {
	if name := z.config.Zone.Name; host == name || parent == name {
		return z.apex
	}
	if s := z.deep.Get(host); s != nil {
		return s
	}
	// DNS wildcards cover any depth (RFC 4592), a certificate's only one level: for names deeper
	// below one nothing is issued, or a stranger could make work with every name he thinks of.
	if z.deep.Len() > 0 && parent != "" {
		return z.deep.Get("*." + parent)
	}
	return nil
}

// serverName returns SNI in the form of the table's keys. Anything that is no host name, addresses
// and wildcards among them, is refused.
func serverName(sni string) (string, bool) {
	if sni == "" || len(sni) > 253 {
		return "", false
	}
	upper, start := false, 0
	for i := range len(sni) {
		switch ch := sni[i]; {
		case ch == '.':
			if !isLabel(sni[start:i]) {
				return "", false
			}
			start = i + 1
		case ch >= 'A' && ch <= 'Z':
			upper = true
		case ch >= 'a' && ch <= 'z', ch >= '0' && ch <= '9', ch == '-', ch == '_':
		default:
			return "", false
		}
	}
	if !isLabel(sni[start:]) {
		return "", false
	}
	if upper {
		sni = strings.ToLower(sni)
	}
	return sni, true
}

func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}
