package proxy

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"selvage/foundation/hamt"
	"selvage/product"
	"selvage/spec"
)

// table is every host that is known. Immutable but for the turns that addresses take; its next
// version shares what did not change, so that a change costs the same however much there is.
type table struct {
	from   *spec.Snapshot    // that the table was made of
	sites  hamt.Map[*site]   // by zone name
	byID   hamt.Map[*site]   // by zone ID
	rivals hamt.Map[[]*site] // by zone name, where more than one zone has it
	hosts  int               // proxied names of the sites that are served
}

// site is one zone, ready for requests.
type site struct {
	zone  *spec.ZoneConfig
	names hamt.Map[*name] // names with records
	wild  hamt.Map[*name] // wildcards, by the name above them
	below hamt.Map[int]   // how many names with records are below a name, which makes it exist
	hosts int             // of names and wild that are proxied
	rules []originRule

	serving     bool // active and not paused
	ssl         string
	alwaysHTTPS bool
	websockets  bool
	country     bool
	http2       bool // to origins
	maxUpload   int64
	readTimeout time.Duration
}

// name is what DNS has at a name, as far as origins go.
type name struct {
	addrs   []netip.Addr // twice in a row, so that every turn is a part of it
	cname   string
	proxied bool
	turn    atomic.Uint32
}

// nothing is a name that exists and leads nowhere.
var nothing = &name{}

// with returns the table of next. Zones that cannot be made ready come back as faults.
func (t *table) with(ctx context.Context, next *spec.Snapshot) (*table, []error) {
	e := &tableEdit{sites: t.sites.Edit(), byID: t.byID.Edit(), rivals: t.rivals.Edit()}
	var faults []error
	for id, z := range next.Changed(t.from) {
		if err := ctx.Err(); err != nil {
			return nil, []error{err}
		}
		if z == nil {
			e.replace(id, nil)
			continue
		}
		s, err := newSite(t.byID.Get(id), z)
		if err != nil {
			faults = append(faults, &product.ZoneError{ZoneID: id, Err: err})
			continue
		}
		e.replace(id, s)
	}
	return &table{from: next, sites: e.sites.Map(), byID: e.byID.Map(), rivals: e.rivals.Map(), hosts: t.hosts + e.hosts}, faults
}

// tableEdit is a table in the making.
type tableEdit struct {
	sites  *hamt.Edit[*site]
	byID   *hamt.Edit[*site]
	rivals *hamt.Edit[[]*site]
	hosts  int // more than before
}

// replace puts s in the place of zone id's site; nil takes it out.
func (e *tableEdit) replace(id string, s *site) {
	old := e.byID.Get(id)
	if old != nil && (s == nil || old.zone.Zone.Name != s.zone.Zone.Name) {
		e.settle(old.zone.Zone.Name, old, nil)
		old = nil
	}
	if s == nil {
		e.byID.Delete(id)
		return
	}
	e.byID.Set(id, s)
	e.settle(s.zone.Zone.Name, old, s)
}

// settle finds who has a zone name after s came for old; either may be nil. Of two zones with one
// name the one that is served has it, or else the one with the smaller ID.
func (e *tableEdit) settle(zone string, old, s *site) {
	before := e.sites.Get(zone)
	all := slices.Clone(e.rivals.Get(zone))
	if all == nil && before != nil {
		all = append(all, before)
	}
	all = slices.DeleteFunc(all, func(r *site) bool { return r == old })
	if s != nil {
		all = append(all, s)
	}
	e.hosts -= before.served()
	if len(all) < 2 {
		e.rivals.Delete(zone)
	} else {
		e.rivals.Set(zone, all)
	}
	if len(all) == 0 {
		e.sites.Delete(zone)
		return
	}
	best := all[0]
	for _, s := range all[1:] {
		if s.serving && !best.serving || s.serving == best.serving && s.zone.Zone.ID < best.zone.Zone.ID {
			best = s
		}
	}
	e.sites.Set(zone, best)
	e.hosts += best.served()
}

// served returns how many hosts a site serves; nil serves none.
func (s *site) served() int {
	if s == nil || !s.serving {
		return 0
	}
	return s.hosts
}

// find returns the zone with the longest name that host is in, or nil.
func (t *table) find(host string) *site {
	for {
		if s := t.sites.Get(host); s != nil {
			return s
		}
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
	}
}

// newSite makes a zone ready. What old, which may be nil, has of the same records and rules is taken
// over from it.
func newSite(old *site, z *spec.ZoneConfig) (*site, error) {
	set := z.Settings
	s := &site{
		zone:    z,
		serving: z.Zone.Status == "active" && !z.Zone.Paused,
		ssl:     set.Text("ssl"), alwaysHTTPS: set.On("always_use_https"), websockets: set.On("websockets"), country: set.On("ip_geolocation"),
		http2:       set.Text("origin_max_http_version") == "2",
		maxUpload:   int64(set.Number("max_upload")) << 20,
		readTimeout: time.Duration(set.Number("proxy_read_timeout")) * time.Second,
	}
	if old == nil || old.zone.Zone.Name != z.Zone.Name {
		old = &site{zone: &spec.ZoneConfig{}}
	}
	s.addRecords(old)
	rules := z.Ruleset(originPhase)
	if rules == old.zone.Ruleset(originPhase) {
		s.rules = old.rules
		return s, nil
	}
	var err error
	s.rules, err = compileRules(rules)
	return s, err
}

// addRecords makes the names of the zone's records, those of old where the records are the same.
func (s *site) addRecords(old *site) {
	s.names, s.wild, s.below, s.hosts = old.names, old.wild, old.below, old.hosts
	before, now := old.zone.Records, s.zone.Records
	if len(before) == len(now) && (len(now) == 0 || &before[0] == &now[0]) {
		return // the very same list: only settings or rules have changed
	}
	names, wild, below := s.names.Edit(), s.wild.Edit(), s.below.Edit()
	for host, records := range spec.ChangedNames(before, now) {
		where, key := names, host
		if above, ok := strings.CutPrefix(host, "*."); ok {
			where, key = wild, above
		}
		was, is := where.Get(key), newName(records)
		if was != nil && was.proxied {
			s.hosts--
		}
		if is == nil {
			where.Delete(key)
		} else {
			where.Set(key, is)
		}
		if is != nil && is.proxied {
			s.hosts++
		}
		if (was == nil) != (is == nil) {
			s.count(below, host, is != nil)
		}
	}
	s.names, s.wild, s.below = names.Map(), wild.Map(), below.Map()
}

// count notes for the names between a host and the zone's own that there is one more name below
// them, or one less.
func (s *site) count(below *hamt.Edit[int], host string, more bool) {
	for host != s.zone.Zone.Name {
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return
		}
		host = host[i+1:]
		n := below.Get(host)
		if more {
			below.Set(host, n+1)
		} else if n == 1 {
			below.Delete(host)
		} else {
			below.Set(host, n-1)
		}
	}
}

// newName returns what the records of one name say, or nil if there are none.
func newName(records []*spec.Record) *name {
	if len(records) == 0 {
		return nil
	}
	n := &name{}
	for _, r := range records {
		switch r.Type {
		case "A", "AAAA":
			if addr, err := netip.ParseAddr(r.Content); err == nil {
				n.addrs = append(n.addrs, addr)
			}
		case "CNAME":
			n.cname = strings.TrimSuffix(strings.ToLower(r.Content), ".")
		}
		n.proxied = n.proxied || r.Proxied && r.Proxiable()
	}
	if n.addrs == nil && n.cname == "" && !n.proxied {
		return nothing
	}
	n.addrs = append(n.addrs, n.addrs...)
	return n
}

// lookup returns what DNS has at host: the name itself, or else the wildcard below the closest name
// that exists (RFC 4592); nil if there is neither.
func (s *site) lookup(host string) *name {
	if n := s.names.Get(host); n != nil {
		return n
	}
	if s.exists(host) {
		return nothing
	}
	for {
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
		if s.names.Get(host) != nil || s.exists(host) {
			return s.wild.Get(host)
		}
	}
}

// exists tells whether a name without records exists: the zone's own, and those above others.
func (s *site) exists(host string) bool {
	return host == s.zone.Zone.Name || s.below.Get(host) > 0
}

// next returns the addresses in the order of this turn.
func (n *name) next() []netip.Addr {
	count := len(n.addrs) / 2
	if count < 2 {
		return n.addrs[:count]
	}
	first := int(n.turn.Add(1)) % count
	return n.addrs[first : first+count]
}
