// Package mywire is the client/server protocol of MySQL and MariaDB, as far as somebody between the two
// needs it: packets, both sides of the handshake with its ways to prove a password, and where the
// answer to a command ends. It knows no product and keeps no connection.
//
// Source: dev.mysql.com/doc/dev/mysql-server, "Client/Server Protocol", and mariadb.com/kb, "Client/Server
// Protocol".
package mywire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Flags of what client and server can do.
const (
	CapLongPassword     = 1 << 0
	CapFoundRows        = 1 << 1
	CapLongFlag         = 1 << 2
	CapConnectWithDB    = 1 << 3
	CapCompress         = 1 << 5
	CapLocalFiles       = 1 << 7
	CapIgnoreSpace      = 1 << 8
	CapProtocol41       = 1 << 9
	CapInteractive      = 1 << 10
	CapTLS              = 1 << 11
	CapTransactions     = 1 << 13
	CapSecureConnection = 1 << 15
	CapMultiStatements  = 1 << 16
	CapMultiResults     = 1 << 17
	CapPSMultiResults   = 1 << 18
	CapPluginAuth       = 1 << 19
	CapAttributes       = 1 << 20
	CapLongAuth         = 1 << 21 // the proof's length is a length-encoded integer
	CapExpiredPasswords = 1 << 22
	CapSessionTrack     = 1 << 23
	CapDeprecateEOF     = 1 << 24
)

// Flags of the server's status, in OK and EOF packets.
const (
	StatusInTransaction  = 1 << 0
	StatusAutocommit     = 1 << 1
	StatusMoreResults    = 1 << 3
	StatusCursorExists   = 1 << 6
	StatusLastRowSent    = 1 << 7
	StatusStateChanged   = 1 << 14 // session tracking: what follows says what
	StatusInReadOnlyWork = 1 << 13
)

// Commands, the first byte of what a client sends.
const (
	ComQuit            = 0x01
	ComInitDB          = 0x02
	ComQuery           = 0x03
	ComFieldList       = 0x04
	ComStatistics      = 0x09
	ComProcessKill     = 0x0c
	ComDebug           = 0x0d
	ComPing            = 0x0e
	ComChangeUser      = 0x11
	ComBinlogDump      = 0x12
	ComTableDump       = 0x13
	ComRegisterSlave   = 0x15
	ComStmtPrepare     = 0x16
	ComStmtExecute     = 0x17
	ComStmtLongData    = 0x18
	ComStmtClose       = 0x19
	ComStmtReset       = 0x1a
	ComSetOption       = 0x1b
	ComStmtFetch       = 0x1c
	ComResetConnection = 0x1f
)

// First bytes of what a server answers.
const (
	headOK       = 0x00
	headMore     = 0x01 // of the handshake
	headLocal    = 0xfb
	headEOF      = 0xfe
	headErr      = 0xff
	nullValue    = 0xfb
	maxPacket    = 1<<24 - 1 // bytes of one packet; longer payloads go on in the next
	utf8mb4Codes = 45        // utf8mb4_general_ci
)

// Error is an ERR packet.
type Error struct {
	Code    uint16
	State   string // SQLSTATE, five characters
	Message string
}

// Error returns the message with its code, as MySQL's own tools show it.
func (e *Error) Error() string { return fmt.Sprintf("ERROR %d (%s): %s", e.Code, e.State, e.Message) }

// Append appends the packet's payload to b.
func (e *Error) Append(b []byte) []byte {
	state := e.State
	if len(state) != 5 {
		state = "HY000"
	}
	b = append(b, headErr)
	b = binary.LittleEndian.AppendUint16(b, e.Code)
	b = append(b, '#')
	b = append(b, state...)
	return append(b, e.Message...)
}

// ErrMalformed says that the other side does not keep to the protocol.
var ErrMalformed = errors.New("mywire: malformed packet")

// ParseError reads the payload of an ERR packet.
func ParseError(p []byte) (*Error, error) {
	if len(p) < 3 || p[0] != headErr {
		return nil, ErrMalformed
	}
	e := &Error{Code: binary.LittleEndian.Uint16(p[1:]), State: "HY000"}
	p = p[3:]
	if len(p) >= 6 && p[0] == '#' {
		e.State, p = string(p[1:6]), p[6:]
	}
	e.Message = string(p)
	return e, nil
}

// OK is an OK packet.
type OK struct {
	AffectedRows uint64
	LastInsertID uint64
	Status       uint16
	Warnings     uint16
	Info         []byte // text and session state, raw
}

// Append appends the packet's payload to b.
func (o *OK) Append(b []byte) []byte {
	b = append(b, headOK)
	b = appendLength(b, o.AffectedRows)
	b = appendLength(b, o.LastInsertID)
	b = binary.LittleEndian.AppendUint16(b, o.Status)
	b = binary.LittleEndian.AppendUint16(b, o.Warnings)
	return append(b, o.Info...)
}

// ParseOK reads the payload of an OK packet, also of one that stands for an EOF packet.
func ParseOK(p []byte) (OK, error) {
	r := reader{p: p}
	r.skip(1)
	o := OK{AffectedRows: r.length(), LastInsertID: r.length(), Status: r.uint16(), Warnings: r.uint16()}
	o.Info = r.p
	return o, r.err()
}

// appendLength appends a length-encoded integer.
func appendLength(b []byte, n uint64) []byte {
	switch {
	case n < nullValue:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.LittleEndian.AppendUint16(append(b, 0xfc), uint16(n))
	case n < 1<<24:
		return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xfe), n)
}

// reader takes fields off a payload. After a fault it returns zeros.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.p) {
		r.bad = true
		return nil
	}
	b := r.p[:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) skip(n int) { r.take(n) }

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// length reads a length-encoded integer.
func (r *reader) length() uint64 {
	size := 0
	switch b := r.byte(); b {
	case 0xfc:
		size = 2
	case 0xfd:
		size = 3
	case 0xfe:
		size = 8
	case nullValue, headErr:
		r.bad = true
		return 0
	default:
		return uint64(b)
	}
	n := uint64(0)
	for i, b := range r.take(size) {
		n |= uint64(b) << (8 * i)
	}
	return n
}

// text reads bytes up to a zero byte.
func (r *reader) text() string {
	for i, b := range r.p {
		if b == 0 {
			s := string(r.p[:i])
			r.p = r.p[i+1:]
			return s
		}
	}
	r.bad = true
	return ""
}

// rest returns what is left, without a zero byte at its end.
func (r *reader) rest() string {
	p := r.p
	if len(p) > 0 && p[len(p)-1] == 0 {
		p = p[:len(p)-1]
	}
	r.p = nil
	return string(p)
}
