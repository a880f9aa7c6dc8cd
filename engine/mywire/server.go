package mywire

// Welcome is how a client is let in.
type Welcome struct {
	Version string
	Thread  uint32
	Caps    uint32
	Status  uint16
	// Password returns the password of a user, or an *Error for the client.
	Password func(l *Login) (string, error)
}

// Accept has the client at the other end prove who it is and returns its login, whose Caps are what both
// can do. LetIn, or an ERR packet, has to follow. Who cannot be let in gets an ERR packet and the caller an error. Deadlines are the caller's.
func (c *Conn) Accept(w Welcome) (*Login, error) {
	c.Begin()
	scramble := NewScramble()
	caps := w.Caps | needed | CapLongAuth | CapLongPassword | CapConnectWithDB | CapAttributes
	g := &Greeting{Version: w.Version, Thread: w.Thread, Scramble: scramble[:], Caps: caps, Charset: utf8mb4Codes, Status: w.Status, Plugin: CachingSHA2}
	if err := c.Send(g.Append(nil)); err != nil {
		return nil, err
	}
	p, err := c.ReadPayload(maxHandshake)
	if err != nil {
		return nil, err
	}
	l, err := ParseLogin(p)
	if err != nil || l.Caps&CapTLS != 0 {
		return nil, c.refuse(&Error{1043, "08S01", "Bad handshake: the client has to speak the protocol of MySQL 4.1 or later, without TLS."})
	}
	l.Caps &= caps
	password, err := w.Password(l)
	if err != nil {
		return nil, c.refuse(err)
	}
	if err := c.verify(l, password, scramble[:]); err != nil {
		return nil, c.refuse(err)
	}
	return l, nil
}

// LetIn tells a client that it is logged in.
func (c *Conn) LetIn(status uint16) error { return c.Send((&OK{Status: status}).Append(nil)) }

// verify checks the client's proof, and asks for one of a kind that is known if it is not.
func (c *Conn) verify(l *Login, password string, scramble []byte) error {
	plugin := l.Plugin
	switch {
	case plugin == "" && len(l.Proof) == scrambleSize:
		plugin = NativePassword
	case plugin == "" || plugin != NativePassword && plugin != CachingSHA2, len(l.Proof) == 0:
		plugin = NativePassword
		if l.Plugin == CachingSHA2 {
			plugin = CachingSHA2
		}
		if l.Caps&CapPluginAuth == 0 {
			return denied(l)
		}
		ask := append(append([]byte{headEOF}, plugin...), 0)
		if err := c.Send(append(append(ask, scramble...), 0)); err != nil {
			return err
		}
		p, err := c.ReadPayload(maxHandshake)
		if err != nil {
			return err
		}
		l.Proof = append([]byte{}, p...)
	}
	if !proven(plugin, password, scramble, l.Proof) {
		return denied(l)
	}
	if plugin == CachingSHA2 {
		return c.WritePayload([]byte{headMore, sha2Known})
	}
	return nil
}

func denied(l *Login) *Error {
	return &Error{1045, "28000", "Access denied for user '" + l.User + "': the password is wrong."}
}

// refuse tells the client why it is not let in, and returns that.
func (c *Conn) refuse(why error) error {
	if e, ok := why.(*Error); ok {
		if err := c.Send(e.Append(nil)); err != nil {
			return err
		}
	}
	return why
}
