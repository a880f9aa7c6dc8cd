package dns

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"
)

// DNS cookies (RFC 7873) with the server cookie that all implementations share (RFC 9018): a client
// that shows one it was given cannot have a forged address.

const (
	optionCookie     = 10
	clientCookieSize = 8
	serverCookieSize = 16

	cookieLife  = time.Hour        // how long a server cookie is good
	cookieRenew = 30 * time.Minute // when it is replaced before its end
	cookieSkew  = 5 * time.Minute  // how far ahead another server's clock may be
)

// clientCookie is the COOKIE option of a query.
type clientCookie struct {
	given  bool
	client [clientCookieSize]byte
	server [serverCookieSize]byte
	whole  bool // it came with a server cookie of our size
}

// read reads the option's data. It returns false if its length is not one that exists.
func (c *clientCookie) read(data []byte) bool {
	n := len(data)
	if n != clientCookieSize && (n < clientCookieSize+8 || n > clientCookieSize+32) {
		return false
	}
	c.given = true
	copy(c.client[:], data)
	if n == clientCookieSize+serverCookieSize {
		c.whole = true
		copy(c.server[:], data[clientCookieSize:])
	}
	return true
}

// cookieJar makes and checks server cookies.
type cookieJar struct {
	k0, k1 uint64 // the secret, as SipHash takes it
}

func newCookieJar(secret [16]byte) cookieJar {
	return cookieJar{binary.LittleEndian.Uint64(secret[:8]), binary.LittleEndian.Uint64(secret[8:])}
}

// valid tells whether the server cookie of c was made here, or by a server with the same secret,
// for this client and not too long ago.
func (j cookieJar) valid(c *clientCookie, addr netip.Addr, now time.Time) bool {
	if !c.whole || c.server[0] != 1 {
		return false
	}
	age := int32(uint32(now.Unix()) - binary.BigEndian.Uint32(c.server[4:])) // serial arithmetic, RFC 9018, 4.3
	if time.Duration(age)*time.Second > cookieLife || time.Duration(-age)*time.Second > cookieSkew {
		return false
	}
	var want [8]byte
	j.hash(want[:], c.client[:], c.server[:8], addr)
	return subtle.ConstantTimeCompare(want[:], c.server[8:]) == 1
}

// answer returns the server cookie to give back: a valid young one as it is, or a new one.
func (j cookieJar) answer(c *clientCookie, addr netip.Addr, now time.Time, valid bool) [serverCookieSize]byte {
	if age := uint32(now.Unix()) - binary.BigEndian.Uint32(c.server[4:]); valid && time.Duration(int32(age))*time.Second < cookieRenew {
		return c.server
	}
	s := [serverCookieSize]byte{0: 1}
	binary.BigEndian.PutUint32(s[4:], uint32(now.Unix()))
	j.hash(s[8:], c.client[:], s[:8], addr)
	return s
}

// hash is SipHash-2-4 over client cookie, version, reserved, time and address (RFC 9018, 4.4).
func (j cookieJar) hash(out, client, head []byte, addr netip.Addr) {
	var in [clientCookieSize + 8 + 16]byte
	copy(in[:], client)
	copy(in[clientCookieSize:], head)
	n := clientCookieSize + 8
	if addr = addr.Unmap(); addr.Is4() {
		a := addr.As4()
		n += copy(in[n:], a[:])
	} else {
		a := addr.As16()
		n += copy(in[n:], a[:])
	}
	binary.LittleEndian.PutUint64(out, sipHash(j.k0, j.k1, in[:n]))
}

// sipHash is SipHash-2-4 (Aumasson and Bernstein, 2012).
func sipHash(k0, k1 uint64, in []byte) uint64 {
	v := sipState{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	last := uint64(len(in)) << 56
	for ; len(in) >= 8; in = in[8:] {
		v.add(binary.LittleEndian.Uint64(in))
	}
	for i, b := range in {
		last |= uint64(b) << (8 * i)
	}
	v.add(last)
	v.c ^= 0xff
	for range 4 {
		v.round()
	}
	return v.a ^ v.b ^ v.c ^ v.d
}

type sipState struct{ a, b, c, d uint64 }

func (v *sipState) add(m uint64) {
	v.d ^= m
	v.round()
	v.round()
	v.a ^= m
}

func (v *sipState) round() {
	v.a += v.b
	v.b = bits.RotateLeft64(v.b, 13) ^ v.a
	v.a = bits.RotateLeft64(v.a, 32)
	v.c += v.d
	v.d = bits.RotateLeft64(v.d, 16) ^ v.c
	v.a += v.d
	v.d = bits.RotateLeft64(v.d, 21) ^ v.a
	v.c += v.b
	v.b = bits.RotateLeft64(v.b, 17) ^ v.c
	v.c = bits.RotateLeft64(v.c, 32)
}
