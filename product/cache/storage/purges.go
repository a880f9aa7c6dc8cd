package storage

import (
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
)

// PurgeKind says what a purge names.
type PurgeKind string

// The kinds of purge.
const (
	PurgeZone   PurgeKind = "zone"   // everything of the zone; Value is empty
	PurgeHost   PurgeKind = "host"   // everything under a host name
	PurgePrefix PurgeKind = "prefix" // host and path, and all below: whole path segments
	PurgeTag    PurgeKind = "tag"    // everything tagged so, in lower case
	PurgeURL    PurgeKind = "url"    // what was stored from a URL, as URLOf writes it
	PurgeKey    PurgeKind = "key"    // what is stored under a cache key, the Key's octets
)

// Purge is one thing to forget. It is what a node would tell others: replaying one is harmless.
type Purge struct {
	Kind  PurgeKind
	Zone  string
	Value string
}

// URLOf returns the form in which PurgeURL names a URL: a hash, for URLs are long.
func URLOf(scheme, host, uri string) string {
	sum := sha256.Sum256([]byte(scheme + "://" + host + uri))
	return string(sum[:])
}

// purges is the record of what was purged. Nothing stored is touched by a purge: every purge gets
// a number, everything stored carries the number of the last purge before its origin was asked,
// and whoever looks a thing up compares. So a purge costs the same whatever it covers, is in
// effect when it is recorded, and wins against responses that are on their way.
type purges struct {
	last  atomic.Uint64 // number of the newest purge
	mu    sync.RWMutex  // guards the fields below
	zones map[string]*zonePurges
	count int
}

// zonePurges holds the number of the newest purge of each thing of one zone.
type zonePurges struct {
	all  uint64
	last uint64
	by   map[PurgeKind]map[string]uint64
}

// record puts purges into effect and returns their numbers, the first and the last.
func (p *purges) record(list []Purge) (first, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = p.last.Load() + 1
	for _, v := range list {
		p.apply(v, p.last.Load()+1)
	}
	return first, p.last.Load()
}

// apply notes one purge under a number; p.mu is held, or nobody else is there yet.
func (p *purges) apply(v Purge, seq uint64) {
	if p.zones == nil {
		p.zones = map[string]*zonePurges{}
	}
	z := p.zones[v.Zone]
	if z == nil {
		z = &zonePurges{by: map[PurgeKind]map[string]uint64{}}
		p.zones[v.Zone] = z
	}
	z.last = max(z.last, seq)
	if v.Kind == PurgeZone {
		// Whatever was purged before is covered: the records of it can go.
		z.all = max(z.all, seq)
		p.count -= z.trim(seq)
	} else {
		m := z.by[v.Kind]
		if m == nil {
			m = map[string]uint64{}
			z.by[v.Kind] = m
		}
		if _, known := m[v.Value]; !known {
			p.count++
		}
		m[v.Value] = max(m[v.Value], seq)
	}
	// Only now may a reader believe that it has seen this purge.
	p.last.Store(max(p.last.Load(), seq))
}

// covers tells whether something stored was purged since. checked, which may be nil, remembers up
// to where the answer was no: until the next purge that costs one comparison.
func (p *purges) covers(m *Meta, checked *atomic.Uint64) bool {
	last := p.last.Load()
	if m.Seq >= last || checked != nil && checked.Load() >= last {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if z := p.zones[m.Place.Zone]; z != nil && z.last > m.Seq && z.covers(m) {
		return true
	}
	if checked != nil {
		checked.Store(last)
	}
	return false
}

// since tells whether anything of a zone was purged after seq.
func (p *purges) since(zone string, seq uint64) bool {
	if seq >= p.last.Load() {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	z := p.zones[zone]
	return z != nil && z.last > seq
}

func (z *zonePurges) covers(m *Meta) bool {
	if z.all > m.Seq || z.by[PurgeHost][m.Place.Host] > m.Seq || z.by[PurgeKey][string(m.Key[:])] > m.Seq {
		return true
	}
	if tags := z.by[PurgeTag]; len(tags) > 0 {
		for _, t := range m.Place.Tags {
			if tags[t] > m.Seq {
				return true
			}
		}
	}
	if urls := z.by[PurgeURL]; len(urls) > 0 && urls[URLOf(m.Place.Scheme, m.Place.Host, m.Place.URI)] > m.Seq {
		return true
	}
	prefixes := z.by[PurgePrefix]
	return len(prefixes) > 0 && coversPath(prefixes, m)
}

// coversPath looks up host, host/a, host/a/b and so on.
func coversPath(prefixes map[string]uint64, m *Meta) bool {
	path, _, _ := strings.Cut(m.Place.URI, "?")
	full := m.Place.Host + path
	for i := len(m.Place.Host); i < len(full); i++ {
		if full[i] == '/' && prefixes[full[:i]] > m.Seq {
			return true
		}
	}
	return prefixes[full] > m.Seq
}

// forget drops the records up to seq: nothing that they cover is left anywhere.
func (p *purges) forget(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = 0
	for id, z := range p.zones {
		if z.last <= seq {
			delete(p.zones, id)
			continue
		}
		z.trim(seq)
		for _, m := range z.by {
			p.count += len(m)
		}
	}
}

// trim drops the records up to seq, except that of the whole zone, and returns how many.
func (z *zonePurges) trim(seq uint64) (dropped int) {
	for _, m := range z.by {
		for value, s := range m {
			if s <= seq {
				delete(m, value)
				dropped++
			}
		}
	}
	return dropped
}

// list returns the records in effect with their numbers.
func (p *purges) list() map[uint64]Purge {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make(map[uint64]Purge, p.count)
	for id, z := range p.zones {
		if z.all > 0 {
			out[z.all] = Purge{PurgeZone, id, ""}
		}
		for kind, m := range z.by {
			for value, seq := range m {
				out[seq] = Purge{kind, id, value}
			}
		}
	}
	return out
}

// size returns how many records are kept.
func (p *purges) size() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.count + len(p.zones)
}
