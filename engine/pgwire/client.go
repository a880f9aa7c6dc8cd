package pgwire

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
)

// Client is a client that has connected.
type Client struct {
	Conn     net.Conn
	In       *Reader
	Settings map[string]string // of the startup message, without user and database
	User     string
	Database string
}

// Opening is how a client begins. Either Cancel or Client counts.
type Opening struct {
	Client *Client
	Cancel *[8]byte // a CancelRequest with this key
}

// maxStartup bounds a startup message; PostgreSQL has 10,000.
const maxStartup = 10_000

// Accept reads how a client begins. TLS and GSS are declined: the client goes on without or leaves.
func Accept(c net.Conn, in *Reader) (Opening, error) {
	for range 4 {
		if err := in.Need(8); err != nil {
			return Opening{}, err
		}
		b := in.Buffered()
		size, what := int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		if size < 8 || size > maxStartup {
			return Opening{}, fmt.Errorf("startup message of %d bytes: %w", size, ErrMalformed)
		}
		if err := in.Need(size); err != nil {
			return Opening{}, err
		}
		body := in.Buffered()[8:size]
		switch {
		case what == sslCode || what == gssCode:
			in.Discard(size)
			if _, err := c.Write([]byte{'N'}); err != nil {
				return Opening{}, err
			}
			continue
		case what == cancelCode:
			if len(body) != 8 {
				return Opening{}, ErrMalformed
			}
			key := [8]byte(body)
			return Opening{Cancel: &key}, nil
		case what>>16 == 3:
			cl := &Client{Conn: c, In: in, Settings: map[string]string{}}
			unknown, err := cl.startup(body)
			in.Discard(size)
			if err == nil && (what&0xffff > 0 || len(unknown) > 0) {
				err = cl.negotiate(unknown)
			}
			return Opening{Client: cl}, err
		}
		return Opening{}, fmt.Errorf("protocol version %d.%d: %w", what>>16, what&0xffff, ErrMalformed)
	}
	return Opening{}, ErrMalformed
}

func (c *Client) startup(body []byte) (unknown []string, err error) {
	for len(body) > 0 && body[0] != 0 {
		name, rest, ok := CutString(body)
		value, rest, ok2 := CutString(rest)
		if !ok || !ok2 {
			return nil, ErrMalformed
		}
		body = rest
		switch n := string(name); {
		case n == "user":
			c.User = string(value)
		case n == "database":
			c.Database = string(value)
		case len(n) > 5 && n[:5] == "_pq_.":
			unknown = append(unknown, n)
		default:
			c.Settings[n] = string(value)
		}
	}
	if c.User == "" {
		return nil, fmt.Errorf("no user: %w", ErrMalformed)
	}
	if c.Database == "" {
		c.Database = c.User
	}
	return unknown, nil
}

// negotiate tells a client that wants more than 3.0 what there is.
func (c *Client) negotiate(unknown []string) error {
	b, at := Begin(nil, 'v')
	b = binary.BigEndian.AppendUint32(b, 0) // newest minor version
	b = binary.BigEndian.AppendUint32(b, uint32(len(unknown)))
	for _, n := range unknown {
		b = AppendString(b, n)
	}
	_, err := c.Conn.Write(End(b, at))
	return err
}

// ErrPassword says that the client does not know the password.
var ErrPassword = errors.New("wrong password")

// CheckScram asks for a password by SCRAM-SHA-256. v may be that of nobody.
func (c *Client) CheckScram(v *Verifier) error {
	b, at := Begin(nil, 'R')
	b = AppendString(binary.BigEndian.AppendUint32(b, 10), mechanism)
	if _, err := c.Conn.Write(End(append(b, 0), at)); err != nil {
		return err
	}
	body, err := c.answer()
	if err != nil {
		return err
	}
	name, rest, ok := CutString(body)
	if !ok || string(name) != mechanism || len(rest) < 4 {
		return ErrMalformed
	}
	s := &scramServer{v: v}
	first, err := s.answer(string(rest[4:]))
	if err != nil {
		return err
	}
	if err := c.request(11, first); err != nil {
		return err
	}
	if body, err = c.answer(); err != nil {
		return err
	}
	final, ok := s.finish(string(body))
	if !ok {
		return ErrPassword
	}
	return c.request(12, final)
}

// CheckPlain asks for a password in the clear: for connections that nobody can listen to.
func (c *Client) CheckPlain(password string) error {
	if err := c.request(3, ""); err != nil {
		return err
	}
	body, err := c.answer()
	if err != nil {
		return err
	}
	if len(body) == 0 || subtle.ConstantTimeCompare(body[:len(body)-1], []byte(password)) != 1 {
		return ErrPassword
	}
	return nil
}

func (c *Client) request(how uint32, more string) error {
	b, at := Begin(nil, 'R')
	b = append(binary.BigEndian.AppendUint32(b, how), more...)
	_, err := c.Conn.Write(End(b, at))
	return err
}

// answer reads a password message. What it returns is a copy.
func (c *Client) answer() ([]byte, error) {
	kind, body, err := c.In.Message(maxLogin)
	if err != nil {
		return nil, err
	}
	if kind != 'p' {
		return nil, fmt.Errorf("message %q in place of a password: %w", kind, ErrMalformed)
	}
	own := append([]byte{}, body...)
	c.In.Discard(len(body) + head)
	return own, nil
}

// Welcome tells the client that it is in, what the server is like, and the key for cancel requests.
func (c *Client) Welcome(parameters iter.Seq2[string, string], key [8]byte) error {
	b := Append(make([]byte, 0, 512), 'R', []byte{0, 0, 0, 0})
	for k, v := range parameters {
		var at int
		b, at = Begin(b, 'S')
		b = End(AppendString(AppendString(b, k), v), at)
	}
	b = AppendReady(Append(b, 'K', key[:]), 'I')
	_, err := c.Conn.Write(b)
	return err
}
