package dns

import (
	"encoding/binary"
	"fmt"

	mdns "github.com/miekg/dns"
)

// maxSet is the most octets that all records of one name and type may take together, so that they
// fit a message over TCP with everything that goes around them.
const maxSet = 60000

// rrset is all records of one name and type, encoded once and copied into every answer. Owner
// names and names inside the zone are left as compression pointers that the answer fills in, so
// the same octets serve any owner (a wildcard's, a shared edge address's). Immutable.
type rrset struct {
	typ      uint16
	ttl      uint32
	wire     []byte
	starts   []uint16 // where each record begins, with two octets for the pointer to its owner
	relative []uint16 // where a pointer to the zone's own name stands
	targets  []target // of NS and CNAME: the names pointed to, for glue and chains
}

// target is a name inside an rrset's data.
type target struct {
	name string // in wire form
	at   uint16 // where it stands in rrset.wire
}

// encoder builds an rrset.
type encoder struct {
	zone string // the zone's name in wire form; names below it are written relative to it
	set  rrset
}

func newEncoder(zone string, typ uint16, ttl uint32) *encoder {
	return &encoder{zone: zone, set: rrset{typ: typ, ttl: ttl}}
}

// begin starts a record and returns where its data length stands, for end.
func (e *encoder) begin() int {
	e.set.starts = append(e.set.starts, uint16(len(e.set.wire)))
	w := append(e.set.wire, 0xc0, 0)
	w = binary.BigEndian.AppendUint16(w, e.set.typ)
	w = binary.BigEndian.AppendUint16(w, mdns.ClassINET)
	w = binary.BigEndian.AppendUint32(w, e.set.ttl)
	e.set.wire = append(w, 0, 0)
	return len(e.set.wire) - 2
}

// end writes the data length of the record that begin started.
func (e *encoder) end(at int) error {
	if len(e.set.wire) > maxSet {
		return fmt.Errorf("the %s records of this name take %d octets together, the limit is %d", typeName(e.set.typ), len(e.set.wire), maxSet)
	}
	binary.BigEndian.PutUint16(e.set.wire[at:], uint16(len(e.set.wire)-at-2))
	return nil
}

// raw appends data octets.
func (e *encoder) raw(b ...byte) { e.set.wire = append(e.set.wire, b...) }

// name appends a name. Only the types of RFC 1035 may be compressed (RFC 3597, section 4).
func (e *encoder) name(name string) {
	if e.set.typ == mdns.TypeNS || e.set.typ == mdns.TypeCNAME {
		e.set.targets = append(e.set.targets, target{name, uint16(len(e.set.wire))})
	}
	if !compressible(e.set.typ) || !inWireZone(name, e.zone) {
		e.set.wire = append(e.set.wire, name...)
		return
	}
	e.set.wire = append(e.set.wire, name[:len(name)-len(e.zone)]...)
	e.set.relative = append(e.set.relative, uint16(len(e.set.wire)))
	e.set.wire = append(e.set.wire, 0xc0, 0)
}

// strings appends text as character strings of at most 255 octets each.
func (e *encoder) strings(text string) {
	for {
		n := min(len(text), 255)
		e.set.wire = append(append(e.set.wire, byte(n)), text[:n]...)
		text = text[n:]
		if text == "" {
			return
		}
	}
}

func (e *encoder) done() *rrset { s := e.set; return &s }

func compressible(typ uint16) bool {
	switch typ {
	case mdns.TypeNS, mdns.TypeCNAME, mdns.TypeSOA, mdns.TypePTR, mdns.TypeMX:
		return true
	}
	return false
}

// typeName returns a type's mnemonic, or TYPEnnn (RFC 3597).
func typeName(typ uint16) string {
	if s, ok := mdns.TypeToString[typ]; ok {
		return s
	}
	return fmt.Sprintf("TYPE%d", typ)
}
