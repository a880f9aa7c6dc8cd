package mywire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// maxHandshake is more than any packet of a handshake has.
const maxHandshake = 64 << 10

// ErrNoTLS says that a server does not speak TLS, which was asked for.
var ErrNoTLS = errors.New("the server offers no TLS")

// needed is what a server has to be able to.
const needed = CapProtocol41 | CapSecureConnection | CapPluginAuth | CapTransactions

// Credentials are what a connection to a server is opened with.
type Credentials struct {
	User, Password string
	Database       string      // empty: none
	TLS            *tls.Config // nil: none
	OptionalTLS    bool        // go on without it if the server has none
	Caps           uint32      // beside those that the handshake needs, where the server has them
	Charset        byte        // 0: utf8mb4
}

// Connect logs in to the server at the other end and returns what it said first and what it ended with.
// A refusal is an *Error. Deadlines are the caller's.
func (c *Conn) Connect(ctx context.Context, o Credentials) (*Greeting, OK, error) {
	c.Begin()
	p, err := c.ReadPayload(maxHandshake)
	if err != nil {
		return nil, OK{}, err
	}
	g, err := ParseGreeting(p)
	if err != nil {
		return nil, OK{}, err
	}
	l := &Login{Caps: needed | CapLongAuth | o.Caps, MaxPacket: maxPacket, Charset: o.Charset, User: o.User, Database: o.Database, Plugin: g.Plugin}
	if l.Charset == 0 {
		l.Charset = utf8mb4Codes
	}
	if o.Database != "" {
		l.Caps |= CapConnectWithDB
	}
	l.Caps &= g.Caps
	if l.Caps&needed != needed {
		return nil, OK{}, fmt.Errorf("the server %.60q is too old: it lacks what every MySQL since 5.5 has", g.Version)
	}
	if o.OptionalTLS && g.Caps&CapTLS == 0 {
		o.TLS = nil
	}
	if o.TLS != nil {
		if err := c.startTLS(ctx, g, l, o.TLS); err != nil {
			return nil, OK{}, err
		}
	}
	if l.Plugin != NativePassword && l.Plugin != CachingSHA2 {
		l.Plugin = CachingSHA2 // the server says by which way it wants this user's
	}
	if l.Proof, err = prove(l.Plugin, o.Password, g.Scramble); err != nil {
		return nil, OK{}, err
	}
	if err := c.Send(l.Append(nil)); err != nil {
		return nil, OK{}, err
	}
	a := &authentication{c: c, plugin: l.Plugin, scramble: g.Scramble, password: o.Password, secret: o.TLS != nil}
	ok, err := a.run()
	g.Caps = l.Caps
	return g, ok, err
}

func (c *Conn) startTLS(ctx context.Context, g *Greeting, l *Login, config *tls.Config) error {
	if g.Caps&CapTLS == 0 {
		return ErrNoTLS
	}
	l.Caps |= CapTLS
	if err := c.Send(l.appendHead(nil)); err != nil {
		return err
	}
	if c.Buffered() > 0 {
		return ErrMalformed
	}
	t := tls.Client(c.Conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.rebase(t)
	return nil
}

// authentication is the talk after a login, in which the server may ask for another proof.
type authentication struct {
	c        *Conn
	plugin   string
	scramble []byte
	password string
	secret   bool // nobody else reads the connection
}

const maxRounds = 8

func (a *authentication) run() (OK, error) {
	for range maxRounds {
		p, err := a.c.ReadPayload(maxHandshake)
		if err != nil {
			return OK{}, err
		}
		if len(p) == 0 {
			return OK{}, ErrMalformed
		}
		switch p[0] {
		case headOK:
			return ParseOK(p)
		case headErr:
			e, err := ParseError(p)
			if err != nil {
				return OK{}, err
			}
			return OK{}, e
		case headEOF:
			err = a.change(p[1:])
		case headMore:
			err = a.more(p[1:])
		default:
			err = ErrMalformed
		}
		if err != nil {
			return OK{}, err
		}
	}
	return OK{}, ErrMalformed
}

// change answers a request for a proof of another kind.
func (a *authentication) change(p []byte) error {
	r := reader{p: p}
	a.plugin = r.text()
	scramble := []byte(r.rest())
	if r.err() != nil {
		return ErrMalformed
	}
	a.scramble = scramble
	if a.plugin == clearPassword {
		if !a.secret {
			return errors.New("the server asks for the password in clear text, which is sent over TLS only")
		}
		return a.c.Send(append([]byte(a.password), 0))
	}
	if len(scramble) != scrambleSize {
		return ErrMalformed
	}
	proof, err := prove(a.plugin, a.password, scramble)
	if err != nil {
		return err
	}
	return a.c.Send(proof)
}

// What a server says in the middle of caching_sha2_password.
const (
	sha2Known = 3 // it knows the password already: OK follows
	sha2Whole = 4 // it wants the password itself
	sha2Key   = 2 // asks it for its public key
)

func (a *authentication) more(p []byte) error {
	if a.plugin != CachingSHA2 || len(p) != 1 {
		return ErrMalformed
	}
	switch {
	case p[0] == sha2Known:
		return nil
	case p[0] != sha2Whole:
		return ErrMalformed
	case a.secret:
		return a.c.Send(append([]byte(a.password), 0))
	}
	if err := a.c.Send([]byte{sha2Key}); err != nil {
		return err
	}
	key, err := a.c.ReadPayload(maxHandshake)
	if err != nil {
		return err
	}
	if len(key) == 0 || key[0] != headMore {
		return ErrMalformed
	}
	sealed, err := encryptPassword(a.password, a.scramble, key[1:])
	if err != nil {
		return err
	}
	return a.c.Send(sealed)
}
