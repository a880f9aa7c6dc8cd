package dns

import (
	"encoding/binary"
	"net/netip"

	mdns "github.com/miekg/dns"
)

const (
	headerSize = 12

	// Bits of the header's third and fourth octet (RFC 1035, 4.1.1).
	flagQR = 0x80
	flagAA = 0x04
	flagTC = 0x02
	flagRD = 0x01
	flagCD = 0x10

	// ednsSize is the most octets of an answer over UDP: what passes without fragments (RFC 9715).
	ednsSize = 1232
	// plainSize is the same for clients without EDNS.
	plainSize = 512
)

// query is one question taken apart. It is used over and over by one goroutine; nothing in it
// points into memory that outlives the packet.
type query struct {
	packet []byte
	client netip.Addr
	tcp    bool

	// The question. name is in wire form and lower case; the packet keeps the client's spelling.
	name    []byte
	offs    [128]uint8 // where the labels of name begin
	labels  int
	qtype   uint16
	qclass  uint16
	end     int // where the question ends in the packet
	nameBuf [maxName]byte

	edns   bool
	dnssec bool // the DO bit, which is only copied
	size   int  // the most octets of the answer
	cookie clientCookie
}

// verdict is what parse makes of a packet.
type verdict uint8

const (
	verdictDrop    verdict = iota // not a query: no answer, or two servers would talk for ever
	verdictBad                    // FORMERR
	verdictNotImp                 // an opcode other than QUERY
	verdictVersion                // an EDNS version that does not exist
	verdictAsk                    // a question
)

// parse takes a packet apart. The question is valid only after verdictAsk and verdictVersion.
func (q *query) parse(packet []byte, client netip.Addr, tcp bool) verdict {
	q.packet, q.client, q.tcp = packet, client, tcp
	q.edns, q.dnssec, q.end, q.size = false, false, headerSize, plainSize
	q.qtype, q.qclass, q.name, q.labels = 0, 0, nil, 0
	q.cookie = clientCookie{}
	if tcp {
		q.size = 65535
	}
	if len(packet) < headerSize || packet[2]&flagQR != 0 {
		return verdictDrop
	}
	if packet[2]>>3&15 != 0 {
		return verdictNotImp
	}
	if binary.BigEndian.Uint16(packet[4:]) != 1 || !q.question() {
		return verdictBad
	}
	return q.records()
}

// question reads the question; a compressed name has nothing to point to there.
func (q *query) question() bool {
	p, at := q.packet, headerSize
	for {
		if at >= len(p) {
			return false
		}
		n := int(p[at])
		if n > 63 || at+1+n > len(p) || at+1+n-headerSize > maxName {
			return false
		}
		if n == 0 {
			break
		}
		q.offs[q.labels] = uint8(at - headerSize)
		q.labels++
		at += 1 + n
	}
	at++
	if at+4 > len(p) || at-headerSize > maxName {
		return false
	}
	q.name = q.nameBuf[:at-headerSize]
	for i, c := range p[headerSize:at] {
		q.name[i] = lower(c)
	}
	q.qtype = binary.BigEndian.Uint16(p[at:])
	q.qclass = binary.BigEndian.Uint16(p[at+2:])
	q.end = at + 4
	return true
}

// records walks the other sections for the OPT record; everything else in them is passed over.
func (q *query) records() verdict {
	p, at := q.packet, q.end
	if at == len(p) && p[6]|p[7]|p[8]|p[9]|p[10]|p[11] == 0 {
		return verdictAsk // no EDNS: the most common other thing
	}
	before := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:]))
	all := before + int(binary.BigEndian.Uint16(p[10:]))
	v := verdictAsk
	for i := range all {
		root := at < len(p) && p[at] == 0
		at = skipName(p, at)
		if at < 0 || at+10 > len(p) {
			return verdictBad
		}
		end := at + 10 + int(binary.BigEndian.Uint16(p[at+8:]))
		if end > len(p) {
			return verdictBad
		}
		if binary.BigEndian.Uint16(p[at:]) == mdns.TypeOPT {
			if !root || i < before || q.edns {
				return verdictBad
			}
			if v = q.opt(p[at:end]); v == verdictBad {
				return v
			}
		}
		at = end
	}
	return v
}

// opt reads an OPT record from its type on (RFC 6891, 6.1).
func (q *query) opt(r []byte) verdict {
	q.edns = true
	if !q.tcp {
		q.size = min(max(int(binary.BigEndian.Uint16(r[2:])), plainSize), ednsSize)
	}
	q.dnssec = r[6]&0x80 != 0
	if r[5] != 0 {
		return verdictVersion
	}
	for o := r[10:]; len(o) > 0; {
		if len(o) < 4 {
			return verdictBad
		}
		n := int(binary.BigEndian.Uint16(o[2:]))
		if 4+n > len(o) {
			return verdictBad
		}
		if binary.BigEndian.Uint16(o) == optionCookie && !q.cookie.read(o[4:4+n]) {
			return verdictBad
		}
		o = o[4+n:]
	}
	return verdictAsk
}

// skipName returns where what follows a name begins, or -1.
func skipName(p []byte, at int) int {
	for at < len(p) {
		switch n := int(p[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0:
			if at+2 > len(p) {
				return -1
			}
			return at + 2
		case n > 63:
			return -1
		default:
			at += 1 + n
		}
	}
	return -1
}
