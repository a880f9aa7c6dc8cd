package dns

import (
	"encoding/binary"
	"net/netip"
	"time"

	mdns "github.com/miekg/dns"
)

// reply is an answer in the making. Its buffer is used over and over.
type reply struct {
	out       []byte
	limit     int // octets before the OPT record
	sections  [3]uint16
	aa        bool
	truncated bool
	rcode     int // twelve bits with EDNS
}

// The sections of an answer.
const (
	sectionAnswer = iota
	sectionAuthority
	sectionAdditional
)

// optSize is what the OPT record takes, without and with a cookie.
const (
	optSize       = 11
	optCookieSize = optSize + 4 + clientCookieSize + serverCookieSize
)

// begin starts the answer to q with its header and question.
func (r *reply) begin(q *query) {
	r.sections, r.aa, r.truncated, r.rcode = [3]uint16{}, false, false, mdns.RcodeSuccess
	r.limit = q.size
	if q.edns {
		r.limit -= optSize
	}
	if q.cookie.given {
		r.limit -= optCookieSize - optSize
	}
	r.out = append(r.out[:0], q.packet[:q.end]...)
}

// add copies a set into a section. owner and base are where the owner's and the zone's name stand
// in the message; ttl caps the set's own. It returns false, adding nothing, if there is no room.
func (r *reply) add(section int, s *rrset, owner, base int, ttl uint32) bool {
	at := len(r.out)
	if at+len(s.wire) > r.limit || owner > maxPointer || base > maxPointer {
		return false
	}
	r.out = append(r.out, s.wire...)
	w := r.out[at:]
	for _, i := range s.starts {
		binary.BigEndian.PutUint16(w[i:], 0xc000|uint16(owner))
	}
	for _, i := range s.relative {
		binary.BigEndian.PutUint16(w[i:], 0xc000|uint16(base))
	}
	if ttl < s.ttl {
		for _, i := range s.starts {
			binary.BigEndian.PutUint32(w[i+6:], ttl)
		}
	}
	r.sections[section] += uint16(len(s.starts))
	return true
}

const (
	maxPointer = 0x3fff     // a compression pointer has fourteen bits
	ownTTL     = ^uint32(0) // leaves a set its own TTL
)

// must is add for what the answer is not whole without: no room means a truncated answer.
func (r *reply) must(section int, s *rrset, owner, base int, ttl uint32) {
	if !r.add(section, s, owner, base, ttl) {
		r.truncated = true
	}
}

// fail makes the answer an error without records.
func (r *reply) fail(rcode int) {
	r.rcode, r.aa = rcode, false
	r.sections = [3]uint16{}
}

// truncate leaves only header and question, and tells the client to come back over TCP.
func (r *reply) truncate(q *query) {
	r.out = r.out[:q.end]
	r.sections = [3]uint16{}
	r.truncated = true
}

// finish writes the OPT record and the header.
func (r *reply) finish(q *query, server *[serverCookieSize]byte) []byte {
	if r.truncated || r.rcode != mdns.RcodeSuccess && r.sections == [3]uint16{} {
		r.out = r.out[:q.end]
		r.sections = [3]uint16{}
	}
	if q.edns {
		r.opt(q, server)
	}
	h := r.out[:headerSize]
	h[2] = flagQR | h[2]&(0x78|flagRD)
	if r.aa {
		h[2] |= flagAA
	}
	if r.truncated {
		h[2] |= flagTC
	}
	h[3] = h[3]&flagCD | byte(r.rcode&15)
	questions := uint16(0)
	if q.end > headerSize {
		questions = 1
	}
	binary.BigEndian.PutUint16(h[4:], questions)
	for i, n := range r.sections {
		binary.BigEndian.PutUint16(h[6+2*i:], n)
	}
	return r.out
}

func (r *reply) opt(q *query, server *[serverCookieSize]byte) {
	do := byte(0)
	if q.dnssec {
		do = 0x80
	}
	const size = ednsSize
	r.out = append(r.out, 0, 0, byte(mdns.TypeOPT), size>>8, size&255, byte(r.rcode>>4), 0, do, 0, 0, 0)
	if q.cookie.given {
		const n = clientCookieSize + serverCookieSize
		r.out[len(r.out)-1] = 4 + n
		r.out = append(r.out, 0, optionCookie, 0, n)
		r.out = append(r.out, q.cookie.client[:]...)
		r.out = append(r.out, server[:]...)
	}
	r.sections[sectionAdditional]++
}

// responder answers one query after the other. One goroutine uses it at a time.
type responder struct {
	server *Server
	table  *table
	q      query
	r      reply

	// The name that is being answered: the question's, then the targets of CNAMEs.
	name    []byte
	offs    *[128]uint8
	labels  int
	aliased struct {
		name [maxName]byte
		offs [128]uint8
	}
	zone *zone // that the last name is in; nil if none of ours
}

// respond returns the answer to a packet, valid until the next call, or nil if there is none.
func (a *responder) respond(packet []byte, from source) []byte {
	v := a.q.parse(packet, from.addr, from.tcp)
	if v == verdictDrop {
		a.server.meter.dropped.Add(1)
		return nil
	}
	a.table, a.zone = a.server.table.Load(), nil
	a.r.begin(&a.q)
	switch v {
	case verdictBad:
		a.r.rcode = mdns.RcodeFormatError
	case verdictNotImp:
		a.r.rcode = mdns.RcodeNotImplemented
	case verdictVersion:
		a.r.rcode = mdns.RcodeBadVers
	default:
		a.ask()
	}
	var cookie [serverCookieSize]byte
	trusted := from.tcp || from.addr.IsLoopback()
	if a.q.cookie.given {
		now := time.Now()
		valid := a.server.cookies.valid(&a.q.cookie, from.addr, now)
		cookie = a.server.cookies.answer(&a.q.cookie, from.addr, now, valid)
		trusted = trusted || valid
	}
	if !trusted && !a.admit() {
		return nil
	}
	return a.r.finish(&a.q, &cookie)
}

// source is where a packet came from.
type source struct {
	addr netip.Addr
	tcp  bool
}

// admit asks the response-rate limit, and truncates the answer or returns false for none at all.
func (a *responder) admit() bool {
	switch a.server.limiter.check(a.q.client, a.limitKey(), time.Now()) {
	case limitDrop:
		a.server.meter.limited[limitDrop].Add(1)
		return false
	case limitSlip:
		a.server.meter.limited[limitSlip].Add(1)
		a.r.truncate(&a.q)
	}
	return true
}

// limitKey is what the limit counts answers by: the name where there is one, the zone for the names
// that do not exist, for an attacker has any number of these, and nothing for errors.
func (a *responder) limitKey() []byte {
	switch {
	case a.zone == nil || a.r.rcode != mdns.RcodeSuccess && a.r.rcode != mdns.RcodeNameError:
		return nil
	case a.r.rcode == mdns.RcodeNameError || a.r.sections[sectionAnswer] == 0:
		return a.q.name[max(0, len(a.q.name)-len(a.zone.name)):]
	}
	return a.q.name
}
