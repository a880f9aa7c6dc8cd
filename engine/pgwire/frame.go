// Package pgwire speaks PostgreSQL's protocol 3.0: it frames messages, logs in at servers, greets
// clients, and carries cancel requests. It knows no product: what is done with messages is for who
// uses it. Messages are left as they are where nobody needs to read them.
package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// head is the size of a message's head: its type and length.
const head = 5

// ErrMalformed says that bytes do not follow the protocol.
var ErrMalformed = errors.New("malformed message of the PostgreSQL protocol")

// Head takes the head of a message apart; b has at least 5 bytes. size counts the head.
func Head(b []byte) (kind byte, size int, err error) {
	n := binary.BigEndian.Uint32(b[1:])
	if n < 4 || n > 1<<30 {
		return 0, 0, fmt.Errorf("type %q, length %d: %w", b[0], n, ErrMalformed)
	}
	return b[0], int(n) + 1, nil
}

// Begin appends the head of a message whose length End sets.
func Begin(b []byte, kind byte) ([]byte, int) {
	return append(b, kind, 0, 0, 0, 0), len(b)
}

// End sets the length of the message that Begin began at from.
func End(b []byte, from int) []byte {
	binary.BigEndian.PutUint32(b[from+1:], uint32(len(b)-from-1))
	return b
}

// Append appends a message that consists of parts.
func Append(b []byte, kind byte, parts ...[]byte) []byte {
	b, at := Begin(b, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	return End(b, at)
}

// AppendString appends a string and its terminating zero.
func AppendString(b []byte, s string) []byte { return append(append(b, s...), 0) }

// AppendQuery appends a message of simple query.
func AppendQuery(b []byte, sql string) []byte {
	b, at := Begin(b, 'Q')
	return End(AppendString(b, sql), at)
}

// CutString takes a zero-terminated string off b.
func CutString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// Failure is what ErrorResponse and NoticeResponse say.
type Failure struct {
	Severity string // ERROR, FATAL, ...
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
}

// Error returns message and code.
func (f *Failure) Error() string { return f.Message + " (SQLSTATE " + f.Code + ")" }

// ParseFailure reads the body of an ErrorResponse as far as it makes sense.
func ParseFailure(body []byte) *Failure {
	f := &Failure{}
	for len(body) > 0 && body[0] != 0 {
		field := body[0]
		s, rest, ok := CutString(body[1:])
		if !ok {
			break
		}
		body = rest
		switch field {
		case 'V':
			f.Severity = string(s)
		case 'S':
			if f.Severity == "" {
				f.Severity = string(s)
			}
		case 'C':
			f.Code = string(s)
		case 'M':
			f.Message = string(s)
		case 'D':
			f.Detail = string(s)
		case 'H':
			f.Hint = string(s)
		}
	}
	return f
}

// Append appends f as an ErrorResponse.
func (f *Failure) Append(b []byte) []byte {
	b, at := Begin(b, 'E')
	severity := f.Severity
	if severity == "" {
		severity = "ERROR"
	}
	for _, field := range []struct {
		kind byte
		text string
	}{{'S', severity}, {'V', severity}, {'C', f.Code}, {'M', f.Message}, {'D', f.Detail}, {'H', f.Hint}} {
		if field.text != "" {
			b = AppendString(append(b, field.kind), field.text)
		}
	}
	return End(append(b, 0), at)
}

// AppendReady appends ReadyForQuery: I idle, T in a transaction, E in a failed one.
func AppendReady(b []byte, status byte) []byte { return append(b, 'Z', 0, 0, 0, 5, status) }
