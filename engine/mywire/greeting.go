package mywire

import "encoding/binary"

// Greeting is what a server says first.
type Greeting struct {
	Version  string
	Thread   uint32 // ID of the connection, for KILL
	Scramble []byte // 20 bytes
	Caps     uint32
	Charset  byte
	Status   uint16
	Plugin   string
}

const protocolVersion = 10

// Append appends the payload to b.
func (g *Greeting) Append(b []byte) []byte {
	b = append(append(append(b, protocolVersion), g.Version...), 0)
	b = binary.LittleEndian.AppendUint32(b, g.Thread)
	b = append(append(b, g.Scramble[:8]...), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(g.Caps))
	b = append(b, g.Charset)
	b = binary.LittleEndian.AppendUint16(b, g.Status)
	b = binary.LittleEndian.AppendUint16(b, uint16(g.Caps>>16))
	b = append(b, scrambleSize+1)
	b = append(b, make([]byte, 10)...)
	b = append(append(b, g.Scramble[8:]...), 0)
	return append(append(b, g.Plugin...), 0)
}

// ParseGreeting reads a payload. An ERR packet in its place is returned as its *Error.
func ParseGreeting(p []byte) (*Greeting, error) {
	if len(p) > 0 && p[0] == headErr {
		e, err := ParseError(p)
		if err != nil {
			return nil, err
		}
		return nil, e
	}
	r := reader{p: p}
	if r.byte() != protocolVersion {
		return nil, ErrMalformed
	}
	g := &Greeting{Version: r.text(), Thread: r.uint32()}
	g.Scramble = append(g.Scramble, r.take(8)...)
	r.skip(1)
	g.Caps = uint32(r.uint16())
	g.Charset, g.Status = r.byte(), r.uint16()
	g.Caps |= uint32(r.uint16()) << 16
	size := int(r.byte())
	r.skip(10)
	if g.Caps&CapSecureConnection == 0 || g.Caps&CapProtocol41 == 0 {
		return nil, ErrMalformed
	}
	g.Scramble = append(g.Scramble, r.take(max(13, size-8)-1)...)
	r.skip(1)
	g.Plugin = NativePassword
	if g.Caps&CapPluginAuth != 0 {
		g.Plugin = r.rest()
	}
	if len(g.Scramble) != scrambleSize {
		return nil, ErrMalformed
	}
	return g, r.err()
}

// Login is a client's answer to a greeting.
type Login struct {
	Caps      uint32
	MaxPacket uint32
	Charset   byte
	User      string
	Proof     []byte
	Database  string // empty: none
	Plugin    string // empty: not said
	Attrs     []byte // raw
}

// Append appends the payload to b.
func (l *Login) Append(b []byte) []byte {
	b = l.appendHead(b)
	b = append(append(b, l.User...), 0)
	if l.Caps&CapLongAuth != 0 {
		b = appendLength(b, uint64(len(l.Proof)))
	} else {
		b = append(b, byte(len(l.Proof)))
	}
	b = append(b, l.Proof...)
	if l.Caps&CapConnectWithDB != 0 {
		b = append(append(b, l.Database...), 0)
	}
	if l.Caps&CapPluginAuth != 0 {
		b = append(append(b, l.Plugin...), 0)
	}
	return append(b, l.Attrs...)
}

// appendHead appends what a request for TLS consists of.
func (l *Login) appendHead(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, l.Caps)
	b = binary.LittleEndian.AppendUint32(b, l.MaxPacket)
	b = append(b, l.Charset)
	return append(b, make([]byte, 23)...)
}

// ParseLogin reads a payload.
func ParseLogin(p []byte) (*Login, error) {
	r := reader{p: p}
	l := &Login{Caps: r.uint32(), MaxPacket: r.uint32(), Charset: r.byte()}
	r.skip(23)
	if l.Caps&CapProtocol41 == 0 {
		return nil, ErrMalformed
	}
	l.User = r.text()
	switch {
	case l.Caps&CapLongAuth != 0:
		n := r.length()
		if n > uint64(len(r.p)) {
			return nil, ErrMalformed
		}
		l.Proof = append(l.Proof, r.take(int(n))...)
	case l.Caps&CapSecureConnection != 0:
		l.Proof = append(l.Proof, r.take(int(r.byte()))...)
	default:
		l.Proof = []byte(r.text())
	}
	if l.Caps&CapConnectWithDB != 0 && len(r.p) > 0 {
		l.Database = r.text()
	}
	if l.Caps&CapPluginAuth != 0 && len(r.p) > 0 {
		l.Plugin = r.text()
	}
	return l, r.err()
}
