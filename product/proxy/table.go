package proxy

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"selvage/spec"
)

// table is every host that is known. Immutable but for the turns that addresses take.
type table struct {
	sites map[string]*site // by zone name
}

// site is one zone, ready for requests.
type site struct {
	zone  *spec.ZoneConfig
	names map[string]*name // every name that exists in the zone's DNS
	wild  map[string]*name // wildcards, by the name above them
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

// add puts a site into the table. Of two zones with one name the one that is served stays.
func (t *table) add(s *site) {
	old := t.sites[s.zone.Zone.Name]
	if old != nil && (old.serving && !s.serving || old.serving == s.serving && old.zone.Zone.ID < s.zone.Zone.ID) {
		return
	}
	t.sites[s.zone.Zone.Name] = s
}

// find returns the zone with the longest name that host is in, or nil.
func (t *table) find(host string) *site {
	for {
		if s := t.sites[host]; s != nil {
			return s
		}
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
	}
}

func (t *table) hosts() int {
	n := 0
	for _, s := range t.sites {
		if !s.serving {
			continue
		}
		for _, names := range []map[string]*name{s.names, s.wild} {
			for _, at := range names {
				if at.proxied {
					n++
				}
			}
		}
	}
	return n
}

func newSite(z *spec.ZoneConfig) (*site, error) {
	set := z.Settings
	s := &site{
		zone: z, names: make(map[string]*name, len(z.Records)+1), wild: map[string]*name{},
		serving: z.Zone.Status == "active" && !z.Zone.Paused,
		ssl:     set.Text("ssl"), alwaysHTTPS: set.On("always_use_https"), websockets: set.On("websockets"), country: set.On("ip_geolocation"),
		http2:       set.Text("origin_max_http_version") == "2",
		maxUpload:   int64(set.Number("max_upload")) << 20,
		readTimeout: time.Duration(set.Number("proxy_read_timeout")) * time.Second,
	}
	for _, r := range z.Records {
		s.addRecord(r)
	}
	for _, names := range []map[string]*name{s.names, s.wild} {
		for _, at := range names {
			at.addrs = append(at.addrs, at.addrs...)
		}
	}
	var err error
	s.rules, err = compileRules(z.Ruleset(originPhase))
	return s, err
}

// addRecord notes what a record says, and that the names above it exist.
func (s *site) addRecord(r *spec.Record) {
	var at *name
	if above, ok := strings.CutPrefix(r.Name, "*."); ok {
		at = entry(s.wild, above)
		s.exists(above)
	} else {
		at = entry(s.names, r.Name)
		s.exists(r.Name)
	}
	switch r.Type {
	case "A", "AAAA":
		if addr, err := netip.ParseAddr(r.Content); err == nil {
			at.addrs = append(at.addrs, addr)
		}
	case "CNAME":
		at.cname = strings.TrimSuffix(strings.ToLower(r.Content), ".")
	}
	at.proxied = at.proxied || r.Proxied && r.Proxiable()
}

// exists notes a name and those between it and the zone's own.
func (s *site) exists(host string) {
	for host != s.zone.Zone.Name && s.zone.Zone.Name != "" {
		entry(s.names, host)
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return
		}
		host = host[i+1:]
	}
	entry(s.names, host)
}

func entry(names map[string]*name, host string) *name {
	n := names[host]
	if n == nil {
		n = &name{}
		names[host] = n
	}
	return n
}

// lookup returns what DNS has at host: the name itself, or else the wildcard below the closest name
// that exists (RFC 4592); nil if there is neither.
func (s *site) lookup(host string) *name {
	if n := s.names[host]; n != nil {
		return n
	}
	for {
		i := strings.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
		if s.names[host] != nil {
			return s.wild[host]
		}
	}
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
